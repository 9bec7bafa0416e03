package catalog

import (
	"context"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/resolverd/resolverd/registry"
)

// Registration is what is to be in the registry. The catalogue keeps what it is given:
// the caller must not change it afterwards.
type Registration struct {
	// Node is written where it differs from what is there; nil where the node must
	// exist already.
	Node *registry.Node
	// Instance may be nil. Its Node may be empty where Node is given; Owner and
	// Definition are set from the actor and from here. Weights are taken as they are,
	// priority 0 becomes 1. Drain is only ever switched on, see SetDrain.
	Instance *registry.Instance
	// Checks of the instance or, where their InstanceID is empty, of the node. An empty
	// Node is filled in, and so are an empty ID and Name, as Consul does. An empty
	// Status means critical for a check that is new, or that tests something else than
	// before; a check that is there unchanged keeps what it found.
	Checks []*registry.Check
	// StatusCounts says that the Status given is what the checks found now, also where
	// they are there already: registrations through the catalogue.
	StatusCounts bool
	// ReplaceChecks takes out those of the instance's checks that are not listed.
	ReplaceChecks bool
	// Definition is a hash of the owner's definition; "" from the API.
	Definition string
}

// Register brings what r says into the registry; see ErrTombstoned, ErrOwned, Invalid.
func (c *Catalog) Register(ctx context.Context, a Actor, r Registration) (Result, error) {
	r, err := r.normal(a)
	if err != nil {
		return Result{}, err
	}
	node, id := r.at()
	unlock, err := c.lock(ctx, node, id)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	return c.change(ctx, func(s *registry.Snapshot) (registry.Change, error) {
		return c.register(s, a, r)
	})
}

// RegisterCheck brings one check of an instance, or of a node, into the registry.
func (c *Catalog) RegisterCheck(ctx context.Context, a Actor, k *registry.Check) (Result, error) {
	return c.Register(ctx, a, Registration{Checks: []*registry.Check{k}})
}

// normal returns a copy with the defaults filled in, or what is wrong with it.
func (r Registration) normal(a Actor) (Registration, error) {
	var bad Invalid
	if r.Node != nil {
		bad.node(r.Node)
	}
	if r.Instance != nil {
		i := *r.Instance
		if i.Node == "" && r.Node != nil {
			i.Node = r.Node.Name
		}
		if i.ID == "" {
			i.ID = i.Service
		}
		i.Owner, i.Definition, i.Revisions = a.Owner, r.Definition, registry.Revisions{}
		if i.Priority == 0 {
			i.Priority = 1
		}
		r.Instance = &i
		if a.Owner == "" {
			bad.Add("Owner", nil, "an instance needs an owner")
		}
		bad.text("Node", i.Node, MaxName)
		bad.instance(&i)
	}
	if len(r.Checks) > MaxChecks {
		bad.Add("Checks", nil, fmt.Sprintf("has %d checks, at most %d are allowed", len(r.Checks), MaxChecks))
		return r, bad.Err()
	}
	r.Checks = r.normalChecks(&bad)
	node, _ := r.at()
	if node == "" && len(bad.Fields) == 0 {
		bad.Add("Node", nil, "must not be empty")
	}
	if r.Node != nil && registry.Fold(node) != registry.Fold(r.Node.Name) {
		bad.Add("Node", node, "the instance and its node must be the same")
	}
	return r, bad.Err()
}

func (r Registration) normalChecks(bad *Invalid) []*registry.Check {
	node, _ := r.at()
	out := make([]*registry.Check, 0, len(r.Checks))
	seen := map[string]bool{}
	for n, given := range r.Checks {
		k := *given
		at := "Check."
		if len(r.Checks) > 1 {
			at = fmt.Sprintf("Checks[%d].", n)
		}
		if k.Node == "" {
			k.Node = node
		}
		if k.ID == "" {
			k.ID = defaultCheckID(&k, n, len(r.Checks))
		}
		if k.Name == "" {
			k.Name = k.ID
			if r.Instance != nil && k.InstanceID != "" {
				k.Name = "Service '" + r.Instance.Service + "' check"
			}
		}
		k.Output = cut(k.Output, MaxOutput)
		bad.check(at, &k)
		if seen[k.ID] {
			bad.Add(at+"CheckID", k.ID, "is there twice")
		}
		seen[k.ID] = true
		if registry.Fold(k.Node) != registry.Fold(node) {
			bad.Add(at+"Node", k.Node, "must be the node of the registration")
		}
		if r.Instance != nil && k.InstanceID != "" && k.InstanceID != r.Instance.ID {
			bad.Add(at+"ServiceID", k.InstanceID, "must be the instance of the registration")
		}
		out = append(out, &k)
	}
	return out
}

// defaultCheckID is Consul's: "service:<id>", with a number behind it where there are
// several; a node's check is called by its name.
func defaultCheckID(k *registry.Check, n, of int) string {
	switch {
	case k.InstanceID == "":
		return k.Name
	case of == 1:
		return "service:" + k.InstanceID
	}
	return "service:" + k.InstanceID + ":" + strconv.Itoa(n+1)
}

// at returns the node and the instance's id that the registration is about.
func (r Registration) at() (node, id string) {
	switch {
	case r.Instance != nil:
		return r.Instance.Node, r.Instance.ID
	case r.Node != nil:
		node = r.Node.Name
	}
	for _, k := range r.Checks {
		if node == "" {
			node = k.Node
		}
		if id == "" {
			id = k.InstanceID
		}
	}
	return node, id
}

// register decides what a normal registration changes.
func (c *Catalog) register(s *registry.Snapshot, a Actor, r Registration) (registry.Change, error) {
	var ch registry.Change
	name, id := r.at()
	node := s.Node(name)
	if node == nil && r.Node == nil {
		return ch, fmt.Errorf("node %q: %w", name, ErrNotFound)
	}
	if node != nil {
		name = node.Name // as it was first written
	}
	if r.Node != nil {
		c.registerNode(&ch, a, node, r.Node)
	} else {
		ch.Guards = append(ch.Guards, guard(registry.NodeKey(name), node.Revisions))
	}
	had := s.Instance(name, id)
	if r.Instance != nil {
		if err := c.registerInstance(&ch, s, a, r, name, had); err != nil {
			return registry.Change{}, err
		}
	} else if id != "" {
		if had == nil {
			return registry.Change{}, fmt.Errorf("instance %q on node %q: %w", id, name, ErrNotFound)
		}
		ch.Guards = append(ch.Guards, guard(registry.InstanceRecordKey(name, id), had.Revisions))
	}
	for _, k := range r.Checks {
		if k.InstanceID != "" && r.Instance == nil && s.Instance(name, k.InstanceID) == nil {
			return registry.Change{}, fmt.Errorf("instance %q on node %q: %w", k.InstanceID, name, ErrNotFound)
		}
		c.registerCheck(&ch, s, a, r, name, findCheck(node, k.ID), k)
	}
	if r.ReplaceChecks && r.Instance != nil {
		c.dropUnlisted(&ch, s, a, had, r.Checks)
	}
	return ch, nil
}

func (c *Catalog) registerNode(ch *registry.Change, a Actor, had *registry.NodeState, want *registry.Node) {
	k := registry.NodeKey(want.Name)
	n := *want
	n.Revisions = registry.Revisions{}
	ev := c.event(a, "node", "register")
	ev.Node, ev.To = n.Name, n.Address.String()
	if had == nil {
		ch.Guards = append(ch.Guards, registry.Guard{Key: k})
	} else {
		ch.Guards = append(ch.Guards, guard(k, had.Revisions))
		old := *had.Node
		old.Revisions, n.Name = registry.Revisions{}, old.Name
		if same(&old, &n) {
			return
		}
		ev.Action, ev.From, ev.Node = "update", old.Address.String(), n.Name
	}
	ch.Put(k, &n)
	ch.Events = append(ch.Events, ev)
}

func (c *Catalog) registerInstance(ch *registry.Change, s *registry.Snapshot, a Actor, r Registration, node string, had *registry.InstanceState) error {
	i := *r.Instance
	i.Node = node
	if err := c.bury(ch, s.Tombstone(node, i.ID), a, &i); err != nil {
		return err
	}
	k := registry.InstanceRecordKey(node, i.ID)
	ev := c.event(a, "instance", "register")
	ev.Node, ev.Service, ev.ID, ev.To = node, i.Service, i.ID, endpoint(&i)
	if had == nil {
		ch.Guards = append(ch.Guards, registry.Guard{Key: k})
	} else {
		if had.Owner != i.Owner && a.Owner != registry.OwnerAPI {
			return fmt.Errorf("instance %q on node %q: %w: %s", i.ID, node, ErrOwned, had.Owner)
		}
		ch.Guards = append(ch.Guards, guard(k, had.Revisions))
		old := *had.Instance
		old.Revisions = registry.Revisions{}
		if i.Definition == "" || i.Definition == old.Definition {
			i.Drain = i.Drain || old.Drain
		}
		if same(&old, &i) {
			return nil
		}
		ev.Action, ev.From = "update", endpoint(&old)
		if old.Owner != i.Owner {
			ev.Reason = strings.TrimSpace(fmt.Sprintf("owner was %s. %s", old.Owner, ev.Reason))
		}
	}
	ch.Put(k, &i)
	ch.Events = append(ch.Events, ev)
	return nil
}

// bury deals with the tombstone of an instance that comes back: the API always clears
// it, its owner when the definition has changed, and another owner does not heed it.
func (c *Catalog) bury(ch *registry.Change, t *registry.Tombstone, a Actor, i *registry.Instance) error {
	k := registry.TombstoneKey(i.Node, i.ID)
	if t == nil {
		ch.Guards = append(ch.Guards, registry.Guard{Key: k})
		return nil
	}
	if a.Owner != registry.OwnerAPI {
		if t.Owner != a.Owner {
			return nil
		}
		if t.Definition == i.Definition {
			return fmt.Errorf("instance %q on node %q: %w (by %s)", i.ID, i.Node, ErrTombstoned, t.By)
		}
	}
	ch.Guards = append(ch.Guards, guard(k, t.Revisions))
	ch.Delete(k)
	return nil
}

func (c *Catalog) registerCheck(ch *registry.Change, s *registry.Snapshot, a Actor, r Registration, node string, had, want *registry.Check) {
	k := *want
	k.Node, k.Revisions, k.Ran = node, registry.Revisions{}, false
	given := k.Status != ""
	key := registry.CheckKey(node, k.ID)
	ev := c.checkEvent(s, a, &k, "register")
	if r.Instance != nil && k.InstanceID != "" {
		ev.Service = r.Instance.Service
	}
	if had == nil {
		ch.Guards = append(ch.Guards, registry.Guard{Key: key})
	} else {
		ch.Guards = append(ch.Guards, guard(key, had.Revisions))
		ev.Action, ev.From = "update", string(had.Status)
		if sameProbe(had, &k) && !(r.StatusCounts && given) {
			k.Status, k.Output, k.Ran = had.Status, had.Output, had.Ran
			given = false
		}
	}
	if k.Status == "" {
		k.Status = registry.Critical
	}
	if given {
		k.Ran = true
	}
	if had != nil {
		old := *had
		old.Revisions = registry.Revisions{}
		if same(&old, &k) {
			return
		}
		if old.Status != k.Status {
			ev.Action = "status"
		}
	}
	ev.To = string(k.Status)
	ch.Put(key, &k)
	ch.Events = append(ch.Events, ev)
}

// dropUnlisted takes out the instance's checks that are not in keep.
func (c *Catalog) dropUnlisted(ch *registry.Change, s *registry.Snapshot, a Actor, had *registry.InstanceState, keep []*registry.Check) {
	listed := map[string]bool{}
	for _, k := range keep {
		listed[k.ID] = true
	}
	for _, k := range ownChecks(had) {
		if listed[k.ID] || strings.HasPrefix(k.ID, registry.ServiceMaintenance) {
			continue
		}
		c.dropCheck(ch, s, a, k)
	}
}

// sameProbe reports whether two checks test the same thing, however often.
func sameProbe(a, b *registry.Check) bool {
	if a.InstanceID != b.InstanceID || (a.Definition == nil) != (b.Definition == nil) {
		return false
	}
	if a.Definition == nil {
		return true
	}
	x, y := *a.Definition, *b.Definition
	y.Interval, y.Timeout, y.TTL, y.DeregisterCriticalAfter = x.Interval, x.Timeout, x.TTL, x.DeregisterCriticalAfter
	y.SuccessBeforePassing, y.FailuresBeforeWarning, y.FailuresBeforeCritical = x.SuccessBeforePassing, x.FailuresBeforeWarning, x.FailuresBeforeCritical
	return same(&x, &y)
}

// same compares two parts of the model as they are stored, so that nil and empty are
// one.
func same(a, b any) bool {
	return reflect.DeepEqual(a, b) || string(registry.Encode(a)) == string(registry.Encode(b))
}

func endpoint(i *registry.Instance) string {
	if i.Port == 0 {
		return i.Address.String()
	}
	return i.Address.String() + ":" + strconv.Itoa(int(i.Port))
}
