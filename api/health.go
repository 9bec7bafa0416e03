package api

import (
	"net/http"
	"slices"
	"strings"

	"github.com/resolverd/resolverd/registry"
)

func (s *server) healthService(c *call) error {
	topic, index := ofService(c.rest)
	return s.read(c, topic, index, func(snap *registry.Snapshot) (any, error) {
		list, err := s.instances(c, snap, c.rest)
		if err != nil {
			return nil, err
		}
		out := make([]*healthJSON, 0, len(list))
		for _, i := range list {
			out = append(out, &healthJSON{Node: s.nodeJSON(i.Host), Service: serviceOf(i.Instance), Checks: checksOf(i)})
		}
		return narrowed(c, out)
	})
}

func (s *server) healthChecks(c *call) error {
	topic, index := ofService(c.rest)
	return s.read(c, topic, index, func(snap *registry.Snapshot) (any, error) {
		list, err := s.instances(c, snap, c.rest)
		if err != nil {
			return nil, err
		}
		out := []*checkJSON{}
		for _, i := range list {
			for _, k := range i.Checks {
				if k.InstanceID != "" {
					out = append(out, checkOf(k, i.Instance))
				}
			}
		}
		return narrowed(c, out)
	})
}

func (s *server) healthNode(c *call) error {
	topic, index := ofNode(c.rest)
	return s.read(c, topic, index, func(snap *registry.Snapshot) (any, error) {
		out := []*checkJSON{}
		if n := snap.Node(c.rest); n != nil {
			out = nodeChecks(n)
		}
		return narrowed(c, out)
	})
}

func (s *server) healthState(c *call) error {
	if c.rest != "any" && !registry.Status(c.rest).Valid() {
		return fail(http.StatusBadRequest, "state %q: must be any, passing, warning or critical", clip(c.rest))
	}
	p, err := pickOf(c)
	if err != nil {
		return err
	}
	index := func(snap *registry.Snapshot) uint64 { return snap.ChecksIndex }
	return s.read(c, registry.Topic{Kind: registry.TopicChecks}, index, func(snap *registry.Snapshot) (any, error) {
		out := []*checkJSON{}
		for _, n := range nodesByName(snap) {
			if !p.node(n.Node) {
				continue
			}
			for _, k := range nodeChecks(n) {
				if c.rest == "any" || k.Status == c.rest {
					out = append(out, k)
				}
			}
		}
		sortNear(s.near(c, snap), out, func(k *checkJSON) (string, string) { return k.Node, snap.Node(k.Node).Zone })
		return narrowed(c, out)
	})
}

func nodesByName(snap *registry.Snapshot) []*registry.NodeState {
	return slices.SortedFunc(snap.Nodes(), func(a, b *registry.NodeState) int { return strings.Compare(a.Name, b.Name) })
}

// aggregatedJSON is what a load balancer's probe sees.
type aggregatedJSON struct {
	AggregatedStatus string
	Service          *serviceJSON
	Checks           []*checkJSON
}

func (s *server) aggregate(i *registry.InstanceState) (int, *aggregatedJSON) {
	j := &aggregatedJSON{Service: serviceOf(i.Instance), Checks: checksOf(i), AggregatedStatus: "passing"}
	j.Service.Datacenter = s.Datacenter
	status := registry.Passing
	for _, k := range i.Checks {
		if isMaintenance(k.ID) {
			j.AggregatedStatus = "maintenance"
			return http.StatusServiceUnavailable, j
		}
		status = status.Worse(k.Status)
	}
	j.AggregatedStatus = string(status)
	switch status {
	case registry.Critical:
		return http.StatusServiceUnavailable, j
	case registry.Warning:
		return http.StatusTooManyRequests, j
	}
	return http.StatusOK, j
}

func (s *server) agentHealthByID(c *call) error {
	i := s.View.Load().Instance(s.Node, c.rest)
	if i == nil {
		return s.unhealthy(c, http.StatusNotFound, "ServiceId "+clip(c.rest)+" not found", nil)
	}
	code, j := s.aggregate(i)
	return s.unhealthy(c, code, j.AggregatedStatus, j)
}

func (s *server) agentHealthByName(c *call) error {
	code, status := http.StatusNotFound, "ServiceName "+clip(c.rest)+" Not Found"
	out := []*aggregatedJSON{}
	if n := s.self(); n != nil {
		for _, i := range n.Instances {
			if registry.Fold(i.Service) != registry.Fold(c.rest) {
				continue
			}
			one, j := s.aggregate(i)
			out = append(out, j)
			if code == http.StatusNotFound || one > code {
				code, status = one, j.AggregatedStatus
			}
		}
	}
	return s.unhealthy(c, code, status, out)
}

// unhealthy answers a probe, in words where it asks for text.
func (s *server) unhealthy(c *call, code int, status string, v any) error {
	if c.URL.Query().Get("format") == "text" || v == nil {
		c.text(code, status)
		return nil
	}
	return c.json(code, v)
}

func servicesByName(snap *registry.Snapshot) []*registry.Service {
	return slices.SortedFunc(snap.Services(), func(a, b *registry.Service) int { return strings.Compare(a.Name, b.Name) })
}
