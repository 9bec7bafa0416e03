package api

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/go-bexpr"

	"github.com/resolverd/resolverd/registry"
)

// Bounds of a filter expression: octets, and steps of the parser, which backtracks.
const (
	maxFilter      = 8 << 10
	maxFilterSteps = 500_000
)

// compile reads the call's `filter` once; nil where there is none.
func (c *call) compile() (*bexpr.Evaluator, error) {
	expr := c.URL.Query().Get("filter")
	if expr == "" || c.filter != nil {
		return c.filter, nil
	}
	if len(expr) > maxFilter {
		return nil, fail(http.StatusBadRequest, "filter: longer than %d octets", maxFilter)
	}
	e, err := bexpr.CreateEvaluator(expr, bexpr.WithMaxExpressions(maxFilterSteps))
	if err != nil {
		return nil, fail(http.StatusBadRequest, "filter: %v", err)
	}
	c.filter = e
	return e, nil
}

// narrowed returns the members of list that the call's `filter` keeps; never nil.
func narrowed[T any](c *call, list []T) ([]T, error) {
	if list == nil {
		list = []T{}
	}
	e, err := c.compile()
	if e == nil || err != nil {
		return list, err
	}
	out := make([]T, 0, len(list))
	for _, x := range list {
		ok, err := e.Evaluate(x)
		if err != nil {
			return nil, fail(http.StatusBadRequest, "filter: %v", err)
		}
		if ok {
			out = append(out, x)
		}
	}
	return out, nil
}

// pick says which of a service's instances a query wants.
type pick struct {
	tags     []string
	passing  bool
	nodeMeta map[string]string
}

func pickOf(c *call) (pick, error) {
	q := c.URL.Query()
	p := pick{passing: c.flag("passing")}
	for _, t := range q["tag"] {
		if t != "" {
			p.tags = append(p.tags, t)
		}
	}
	for _, kv := range q["node-meta"] {
		k, v, ok := strings.Cut(kv, ":")
		if !ok || k == "" {
			return p, fail(http.StatusBadRequest, "node-meta: must be key:value, not %q", clip(kv))
		}
		if p.nodeMeta == nil {
			p.nodeMeta = map[string]string{}
		}
		p.nodeMeta[k] = v
	}
	return p, nil
}

// all reports whether nothing is left out.
func (p pick) all() bool { return len(p.tags) == 0 && !p.passing && len(p.nodeMeta) == 0 }

func (p pick) node(n *registry.Node) bool {
	for k, v := range p.nodeMeta {
		if have, ok := n.Meta[k]; !ok || have != v {
			return false
		}
	}
	return true
}

func (p pick) instance(i *registry.InstanceState) bool {
	if !p.node(i.Host) {
		return false
	}
	for _, t := range p.tags {
		if !i.HasTag(t) {
			return false
		}
	}
	return !p.passing || allPassing(i.Checks)
}

// allPassing is Consul's `passing`: every check of the instance and its node passes.
func allPassing(checks []*registry.Check) bool {
	return !slices.ContainsFunc(checks, func(k *registry.Check) bool { return k.Status != registry.Passing })
}

// instances returns the picked instances of the service, nearest first where `near` is
// given.
func (s *server) instances(c *call, snap *registry.Snapshot, name string) ([]*registry.InstanceState, error) {
	p, err := pickOf(c)
	if err != nil {
		return nil, err
	}
	svc := snap.Service(name)
	if svc == nil {
		return nil, nil
	}
	var out []*registry.InstanceState
	for _, i := range svc.Instances {
		if p.instance(i) {
			out = append(out, i)
		}
	}
	sortNear(s.near(c, snap), out, func(i *registry.InstanceState) (string, string) { return i.Node, i.InZone() })
	return out, nil
}

// near returns the node that `near` means, or nil.
func (s *server) near(c *call, snap *registry.Snapshot) *registry.NodeState {
	switch v := c.URL.Query().Get("near"); v {
	case "":
		return nil
	case "_agent":
		return snap.Node(s.Node)
	case "_ip":
		host, _, _ := net.SplitHostPort(c.RemoteAddr)
		a, err := netip.ParseAddr(host)
		if err != nil || a.IsLoopback() {
			return snap.Node(s.Node)
		}
		for _, u := range snap.Uses(a.WithZone("")) {
			return snap.Node(u.Node)
		}
		return nil
	default:
		return snap.Node(v)
	}
}

// sortNear puts what is on the node first, then what is in its zone, then the rest.
func sortNear[T any](n *registry.NodeState, list []T, at func(T) (node, zone string)) {
	if n == nil {
		return
	}
	rank := func(x T) int {
		node, zone := at(x)
		switch {
		case registry.Fold(node) == registry.Fold(n.Name):
			return 0
		case zone != "" && zone == n.Zone:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(list, func(a, b T) int { return rank(a) - rank(b) })
}
