package api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/catalog"
)

func (s *server) agentServiceRegister(c *call) error {
	o, bad, err := c.body()
	if err != nil {
		return err
	}
	i := o.instance("Name")
	if i.Service == "" && !o.has("Name") {
		bad.Add("Name", nil, "must not be empty")
	}
	if i.ID == "" {
		i.ID = i.Service
	}
	i.Node = s.Node
	checks, err := s.checks(o, i.ID)
	if err != nil {
		return err
	}
	if err := bad.Err(); err != nil {
		return err
	}
	ctx, cancel := within(c)
	defer cancel()
	r, err := s.Catalog.Register(ctx, s.actor(c), catalog.Registration{
		Instance: i, Checks: checks, ReplaceChecks: c.flag("replace-existing-checks"),
	})
	return c.done(r, err, "")
}

func (s *server) agentServiceDeregister(c *call) error {
	ctx, cancel := within(c)
	defer cancel()
	r, err := s.Catalog.Deregister(ctx, s.actor(c), s.Node, c.rest)
	if errors.Is(err, catalog.ErrNotFound) {
		return fail(http.StatusNotFound, "Unknown service ID %q. Ensure that the service ID is passed, not the service name.", clip(c.rest))
	}
	return c.done(r, err, "")
}

// enable reads the parameter that maintenance and drain need.
func (c *call) enable() (bool, error) {
	switch v := c.URL.Query().Get("enable"); strings.ToLower(v) {
	case "true", "1", "t":
		return true, nil
	case "false", "0", "f":
		return false, nil
	case "":
		return false, fail(http.StatusBadRequest, "Missing value for enable")
	default:
		return false, fail(http.StatusBadRequest, "enable: %q must be true or false", clip(v))
	}
}

func (s *server) maintenance(c *call, id string) error {
	on, err := c.enable()
	if err != nil {
		return err
	}
	ctx, cancel := within(c)
	defer cancel()
	r, err := s.Catalog.SetMaintenance(ctx, s.actor(c), s.node(c), id, on, c.URL.Query().Get("reason"))
	return c.done(r, err, "")
}

// node returns the node that a call of ours is about: this one unless it names another.
func (s *server) node(c *call) string {
	if n := c.URL.Query().Get("node"); n != "" {
		return n
	}
	return s.Node
}

func (s *server) agentServiceMaintenance(c *call) error { return s.maintenance(c, c.rest) }
func (s *server) agentMaintenance(c *call) error        { return s.maintenance(c, "") }

func (s *server) agentCheckRegister(c *call) error {
	o, bad, err := c.body()
	if err != nil {
		return err
	}
	k, err := s.check(o)
	if err != nil {
		return err
	}
	k.Node = s.Node
	if k.ID == "" {
		k.ID = k.Name
	}
	if k.ID == "" {
		bad.Add("Name", nil, "must not be empty")
	}
	if err := bad.Err(); err != nil {
		return err
	}
	ctx, cancel := within(c)
	defer cancel()
	r, err := s.Catalog.RegisterCheck(ctx, s.actor(c), k)
	if errors.Is(err, catalog.ErrNotFound) && k.InstanceID != "" {
		return fail(http.StatusNotFound, "ServiceID %q does not exist", clip(k.InstanceID))
	}
	return c.done(r, err, "")
}

func unknownCheck(id string) error {
	return fail(http.StatusNotFound, "Unknown check ID %q. Ensure that the check ID is passed, not the check name.", clip(id))
}

func (s *server) agentCheckDeregister(c *call) error {
	ctx, cancel := within(c)
	defer cancel()
	r, err := s.Catalog.DeregisterCheck(ctx, s.actor(c), s.Node, c.rest)
	if errors.Is(err, catalog.ErrNotFound) {
		return unknownCheck(c.rest)
	}
	return c.done(r, err, "")
}

func (s *server) agentCheckSet(st registry.Status) endpoint {
	return func(c *call) error { return s.setStatus(c, st, c.URL.Query().Get("note")) }
}

func (s *server) agentCheckUpdate(c *call) error {
	o, bad, err := c.body()
	if err != nil {
		return err
	}
	st, output := o.status(), o.str("Output")
	if st == "" && len(bad.Fields) == 0 {
		bad.Add("Status", nil, "must be passing, warning or critical")
	}
	if err := bad.Err(); err != nil {
		return err
	}
	return s.setStatus(c, st, output)
}

func (s *server) setStatus(c *call, st registry.Status, output string) error {
	k := s.Catalog.Check(s.Node, c.rest)
	if k == nil {
		return unknownCheck(c.rest)
	}
	if d := k.Definition; d != nil && d.Kind != registry.CheckTTL {
		return fail(http.StatusBadRequest, "CheckID %q does not have associated TTL: it is a check of kind %s, which the agent runs itself", clip(c.rest), d.Kind)
	}
	ctx, cancel := within(c)
	defer cancel()
	r, err := s.Catalog.SetStatus(ctx, s.actor(c), s.Node, k.ID, st, output)
	if errors.Is(err, catalog.ErrNotFound) {
		return unknownCheck(c.rest)
	}
	if err == nil && s.Beat != nil {
		s.Beat(k.Node, k.ID)
	}
	return c.done(r, err, "")
}

// catalogRegister takes a node with at most one service and any checks. The statuses
// given are what somebody found.
func (s *server) catalogRegister(c *call) error {
	o, bad, err := c.body()
	if err != nil {
		return err
	}
	if dc := o.str("Datacenter"); dc != "" && !strings.EqualFold(dc, s.Datacenter) {
		return fail(http.StatusInternalServerError, "No path to datacenter")
	}
	r := catalog.Registration{StatusCounts: true}
	name := o.str("Node")
	if name == "" {
		bad.Add("Node", nil, "must not be empty")
	}
	r.Node = s.catalogNodeOf(o, name)
	if x, ok := o.child("Service"); ok {
		r.Instance = x.instance("Service")
		if r.Instance.ID == "" {
			r.Instance.ID = r.Instance.Service
		}
		r.Instance.Node = name
		if r.Instance.Weights == (registry.Weights{}) {
			// Consul's client always writes them, as zeros where none were set.
			r.Instance.Weights = registry.DefaultWeights
		}
	}
	list := o.children("Checks")
	if one, ok := o.child("Check"); ok {
		list = append([]object{one}, list...)
	}
	instance := ""
	for _, x := range list {
		k := s.catalogCheck(x)
		if k.InstanceID != "" && instance != "" && k.InstanceID != instance {
			bad.Add(x.path+"ServiceID", k.InstanceID, fmt.Sprintf("the checks of one registration belong to one service, here %q", instance))
		}
		instance = k.InstanceID
		r.Checks = append(r.Checks, k)
	}
	if err := bad.Err(); err != nil {
		return err
	}
	ctx, cancel := within(c)
	defer cancel()
	res, err := s.Catalog.Register(ctx, s.actor(c), r)
	return c.done(res, err, "true\n")
}

// catalogNodeOf reads the node, keeping what the catalogue's form does not know. It is
// nil where the node is there and to be left alone.
func (s *server) catalogNodeOf(o object, name string) *registry.Node {
	n := &registry.Node{Name: name}
	had := s.View.Load().Node(name)
	if had != nil {
		*n = *had.Node
		if o.boolean("SkipNodeUpdate") || !o.has("Address") && !o.has("NodeMeta") && !o.has("TaggedAddresses") {
			return nil
		}
	}
	if o.has("Address") {
		n.Address = o.host("Address")
	}
	if id := o.str("ID"); id != "" {
		n.ID = id
	}
	if o.has("NodeMeta") || had == nil {
		n.Meta = o.texts("NodeMeta")
	}
	if o.has("Zone") {
		n.Zone = o.str("Zone")
	}
	if tagged := o.texts("TaggedAddresses"); tagged != nil {
		n.Networks = map[string]registry.Host{}
		for k, v := range tagged {
			h, err := registry.ParseHost(v)
			if err != nil || h.IsZero() {
				o.fault("TaggedAddresses."+clip(k), v, "must be an IP address or a host name")
			}
			n.Networks[k] = h
		}
	}
	return n
}

// catalogCheck reads a check that somebody else runs and reports. Its definition, for
// that somebody, is Consul's and may be empty.
func (s *server) catalogCheck(o object) *registry.Check {
	k := &registry.Check{
		ID: o.str("CheckID", "ID"), Name: o.str("Name"), Notes: o.str("Notes"),
		InstanceID: o.str("ServiceID"), Output: o.str("Output"), Status: o.status(),
	}
	if k.ID == "" {
		k.ID = k.Name
	}
	if k.ID == "" {
		o.fault("CheckID", nil, "must not be empty")
	}
	return k
}

func (s *server) catalogDeregister(c *call) error {
	o, bad, err := c.body()
	if err != nil {
		return err
	}
	if dc := o.str("Datacenter"); dc != "" && !strings.EqualFold(dc, s.Datacenter) {
		return fail(http.StatusInternalServerError, "No path to datacenter")
	}
	node, service, check := o.str("Node"), o.str("ServiceID"), o.str("CheckID")
	if node == "" {
		bad.Add("Node", nil, "must not be empty")
	}
	if err := bad.Err(); err != nil {
		return err
	}
	ctx, cancel := within(c)
	defer cancel()
	var r catalog.Result
	switch {
	case service != "":
		r, err = s.Catalog.Deregister(ctx, s.actor(c), node, service)
	case check != "":
		r, err = s.Catalog.DeregisterCheck(ctx, s.actor(c), node, check)
	default:
		r, err = s.Catalog.DeregisterNode(ctx, s.actor(c), node)
	}
	if errors.Is(err, catalog.ErrNotFound) {
		r, err = catalog.Result{Revision: s.View.Load().Revision}, nil
	}
	return c.done(r, err, "true\n")
}
