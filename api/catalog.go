package api

import (
	"maps"
	"net/http"
	"slices"

	"github.com/resolverd/resolverd/registry"
)

func (s *server) catalogDatacenters(c *call) error {
	return c.json(http.StatusOK, []string{s.Datacenter})
}

func (s *server) catalogNodes(c *call) error {
	p, err := pickOf(c)
	if err != nil {
		return err
	}
	index := func(snap *registry.Snapshot) uint64 { return snap.NodesIndex }
	return s.read(c, registry.Topic{Kind: registry.TopicNodes}, index, func(snap *registry.Snapshot) (any, error) {
		nodes := nodesByName(snap)
		sortNear(s.near(c, snap), nodes, func(n *registry.NodeState) (string, string) { return n.Name, n.Zone })
		out := make([]*nodeJSON, 0, len(nodes))
		for _, n := range nodes {
			if p.node(n.Node) {
				out = append(out, s.nodeJSON(n.Node))
			}
		}
		return narrowed(c, out)
	})
}

// catalogServices maps each service to all of its tags.
func (s *server) catalogServices(c *call) error {
	p, err := pickOf(c)
	if err != nil {
		return err
	}
	p = pick{nodeMeta: p.nodeMeta} // the list knows neither tag nor passing
	index := func(snap *registry.Snapshot) uint64 { return snap.ServicesIndex }
	topic := registry.Topic{Kind: registry.TopicServices}
	if c.URL.Query().Has("filter") || len(p.nodeMeta) > 0 {
		// What is picked by more than names and tags may change with any instance.
		index = func(snap *registry.Snapshot) uint64 { return max(snap.InstancesIndex, snap.NodesIndex) }
		topic = registry.Topic{Kind: registry.TopicInstances}
	}
	return s.read(c, topic, index, func(snap *registry.Snapshot) (any, error) {
		out := map[string][]string{}
		for svc := range snap.Services() {
			list, err := s.tagged(c, p, svc)
			if err != nil {
				return nil, err
			}
			if len(list) > 0 {
				out[svc.Name] = tagsOf(list)
			}
		}
		return out, nil
	})
}

// tagged returns the service's instances that are picked and that the filter keeps.
func (s *server) tagged(c *call, p pick, svc *registry.Service) ([]*registry.InstanceState, error) {
	if c.filter == nil && p.all() {
		return svc.Instances, nil
	}
	var out []*registry.InstanceState
	for _, i := range svc.Instances {
		if !p.instance(i) {
			continue
		}
		if c.filter != nil {
			if kept, err := narrowed(c, []*catalogJSON{s.catalogJSON(i)}); err != nil {
				return nil, err
			} else if len(kept) == 0 {
				continue
			}
		}
		out = append(out, i)
	}
	return out, nil
}

// tagsOf returns the tags of all, each once, in order; never nil.
func tagsOf(list []*registry.InstanceState) []string {
	seen := map[string]struct{}{}
	for _, i := range list {
		for _, t := range i.Tags {
			seen[t] = struct{}{}
		}
	}
	tags := slices.AppendSeq(make([]string, 0, len(seen)), maps.Keys(seen))
	slices.Sort(tags)
	return tags
}

func (s *server) catalogService(c *call) error {
	topic, index := ofService(c.rest)
	return s.read(c, topic, index, func(snap *registry.Snapshot) (any, error) {
		list, err := s.instances(c, snap, c.rest)
		if err != nil {
			return nil, err
		}
		out := make([]*catalogJSON, 0, len(list))
		for _, i := range list {
			out = append(out, s.catalogJSON(i))
		}
		return narrowed(c, out)
	})
}

func (s *server) nodeServices(c *call, n *registry.NodeState) ([]*serviceJSON, error) {
	list := make([]*serviceJSON, 0, len(n.Instances))
	for _, i := range n.Instances {
		list = append(list, serviceOf(i.Instance))
	}
	return narrowed(c, list)
}

func (s *server) catalogNode(c *call) error {
	topic, index := ofNode(c.rest)
	return s.read(c, topic, index, func(snap *registry.Snapshot) (any, error) {
		n := snap.Node(c.rest)
		if n == nil {
			return nil, nil
		}
		list, err := s.nodeServices(c, n)
		if err != nil {
			return nil, err
		}
		m := make(map[string]*serviceJSON, len(list))
		for _, j := range list {
			m[j.ID] = j
		}
		return map[string]any{"Node": s.nodeJSON(n.Node), "Services": m}, nil
	})
}

func (s *server) catalogNodeServices(c *call) error {
	topic, index := ofNode(c.rest)
	return s.read(c, topic, index, func(snap *registry.Snapshot) (any, error) {
		n := snap.Node(c.rest)
		if n == nil {
			return map[string]any{"Node": nil, "Services": []any{}}, nil
		}
		list, err := s.nodeServices(c, n)
		if err != nil {
			return nil, err
		}
		return map[string]any{"Node": s.nodeJSON(n.Node), "Services": list}, nil
	})
}
