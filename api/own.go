package api

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/resolverd/resolverd/registry"
)

// The endpoints below /v1/resolverd/, in our own form.

// Status is the reply of /v1/resolverd/status.
type Status struct {
	Version    string `json:"version"`
	Node       string `json:"node"`
	NodeID     string `json:"node_id"`
	Datacenter string `json:"datacenter"`
	// Revision is the store's revision that the view shows; Serial that of the last
	// write that DNS can see.
	Revision uint64 `json:"revision"`
	Serial   uint64 `json:"serial"`
	// Loaded says that the view has been filled once. AgeSeconds is the time since the
	// store was last heard of; absent before it was.
	Loaded     bool     `json:"loaded"`
	AgeSeconds *float64 `json:"age_seconds,omitempty"`
	Services   int      `json:"services"`
	Instances  int      `json:"instances"`
	Nodes      int      `json:"nodes"`
	Blocking   int      `json:"blocking_queries"`
}

// Instance is one element of the reply of /v1/resolverd/instances.
type Instance struct {
	registry.Instance
	// Host is the node's address; Addr where the instance listens.
	Host registry.Host `json:"node_address"`
	Addr registry.Host `json:"effective_address"`
	// State is what the checks make of it; Weight counts now, 0 while not answered.
	State  string `json:"state"`
	Weight uint16 `json:"weight"`
	// Label is its DNS label.
	Label    string            `json:"label"`
	Checks   []*registry.Check `json:"checks"`
	Created  uint64            `json:"created"`
	Modified uint64            `json:"modified"`
}

// Node is one element of the reply of /v1/resolverd/nodes.
type Node struct {
	registry.Node
	Alive     bool              `json:"alive"`
	Checks    []*registry.Check `json:"checks"`
	Instances int               `json:"instances"`
	Created   uint64            `json:"created"`
	Modified  uint64            `json:"modified"`
}

func (s *server) ownStatus(c *call) error {
	snap := s.View.Load()
	j := Status{
		Version: s.Version, Node: s.Node, NodeID: s.NodeID, Datacenter: s.Datacenter,
		Revision: snap.Revision, Serial: snap.Serial, Loaded: s.View.Loaded(),
		Blocking: len(s.blocking),
	}
	if age, ok := s.View.Age(s.Now()); ok {
		v := age.Seconds()
		j.AgeSeconds = &v
	}
	j.Services, j.Nodes, _ = snap.Counts()
	for n := range snap.Nodes() {
		j.Instances += len(n.Instances)
	}
	return c.json(http.StatusOK, j)
}

// ownInstances lists instances, of one service or node where that is given, by service,
// node and id. It blocks as Consul's reads do.
func (s *server) ownInstances(c *call) error {
	service, node := c.URL.Query().Get("service"), c.URL.Query().Get("node")
	topic := registry.Topic{Kind: registry.TopicAny}
	index := func(snap *registry.Snapshot) uint64 {
		return max(snap.InstancesIndex, snap.ChecksIndex, snap.NodesIndex)
	}
	switch {
	case service != "":
		topic, index = ofService(service)
	case node != "":
		topic, index = ofNode(node)
	}
	return s.read(c, topic, index, func(snap *registry.Snapshot) (any, error) {
		out := []Instance{}
		add := func(list []*registry.InstanceState) {
			for _, i := range list {
				if (node == "" || strings.EqualFold(i.Node, node)) && (service == "" || strings.EqualFold(i.Service, service)) {
					out = append(out, ownInstance(i))
				}
			}
		}
		switch {
		case service != "":
			if x := snap.Service(service); x != nil {
				add(x.Instances)
			}
		case node != "":
			if n := snap.Node(node); n != nil {
				add(n.Instances)
			}
		default:
			for _, x := range servicesByName(snap) {
				add(x.Instances)
			}
		}
		return out, nil
	})
}

func ownInstance(i *registry.InstanceState) Instance {
	j := Instance{
		Instance: *i.Instance, Host: i.Host.Address, Addr: i.Addr(), State: i.State.String(),
		Weight: i.Weight(), Label: i.Label, Checks: i.Checks,
		Created: i.Created, Modified: i.Modified,
	}
	if j.Checks == nil {
		j.Checks = []*registry.Check{}
	}
	return j
}

func (s *server) ownNodes(c *call) error {
	index := func(snap *registry.Snapshot) uint64 {
		return max(snap.InstancesIndex, snap.ChecksIndex, snap.NodesIndex)
	}
	return s.read(c, registry.Topic{Kind: registry.TopicAny}, index, func(snap *registry.Snapshot) (any, error) {
		out := []Node{}
		for _, n := range nodesByName(snap) {
			j := Node{Node: *n.Node, Alive: n.Alive, Checks: n.Checks, Instances: len(n.Instances), Created: n.Created, Modified: n.Modified}
			if j.Checks == nil {
				j.Checks = []*registry.Check{}
			}
			out = append(out, j)
		}
		return out, nil
	})
}

func (s *server) ownHistory(c *call) error {
	v := c.URL.Query()
	q := registry.HistoryQuery{Name: v.Get("name")}
	if since := v.Get("since"); since != "" {
		if d, err := time.ParseDuration(since); err == nil && d >= 0 {
			q.Since = s.Now().Add(-d)
		} else if q.Since, err = time.Parse(time.RFC3339, since); err != nil {
			return fail(http.StatusBadRequest, "since: %q must be a time such as 2026-01-02T15:04:05Z, or how long ago, as 1h", clip(since))
		}
	}
	if limit := v.Get("limit"); limit != "" {
		n, err := strconv.Atoi(limit)
		if err != nil || n < 1 || n > registry.MaxHistoryLimit {
			return fail(http.StatusBadRequest, "limit: %q must be a number of 1 to %d", clip(limit), registry.MaxHistoryLimit)
		}
		q.Limit = n
	}
	ctx, cancel := within(c)
	defer cancel()
	events, err := s.Catalog.History(ctx, q)
	if err != nil {
		return err
	}
	if events == nil {
		events = []registry.Event{}
	}
	return c.json(http.StatusOK, events)
}

func (s *server) drain(c *call, id string) error {
	on, err := c.enable()
	if err != nil {
		return err
	}
	a := s.actor(c)
	a.Reason = c.URL.Query().Get("reason")
	ctx, cancel := within(c)
	defer cancel()
	r, err := s.Catalog.SetDrain(ctx, a, s.node(c), id, on)
	return c.done(r, err, "")
}

func (s *server) ownServiceDrain(c *call) error { return s.drain(c, c.rest) }
func (s *server) ownDrain(c *call) error        { return s.drain(c, "") }
