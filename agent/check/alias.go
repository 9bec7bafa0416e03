package check

import (
	"fmt"

	"github.com/resolverd/resolverd/registry"
)

// aliasResult is what an alias check finds: the worst status of the instance's and its
// node's checks, or of the node's alone where no instance is named. It never looks at
// itself, nor at an alias that looks at it: two that look at each other would hold each
// other critical for ever.
func aliasResult(s *registry.Snapshot, own *registry.Check) result {
	d := own.Definition
	node := d.AliasNode
	if node == "" {
		node = own.Node
	}
	n := s.Node(node)
	if n == nil {
		return critical("node %s is not registered", node)
	}
	checks, what := n.Checks, "node "+node
	if d.AliasInstance != "" {
		i := s.Instance(node, d.AliasInstance)
		if i == nil {
			return critical("instance %s is not registered on node %s", d.AliasInstance, node)
		}
		checks, what = i.Checks, fmt.Sprintf("instance %s on node %s", d.AliasInstance, node)
	}
	status, worst := registry.Passing, ""
	for _, c := range checks {
		if c == own || c.ID == own.ID && registry.Fold(c.Node) == registry.Fold(own.Node) || looksAt(c, own) {
			continue
		}
		if w := status.Worse(c.Status); w != status {
			status, worst = w, c.ID
		}
	}
	switch {
	case worst != "":
		return result{status, clip(fmt.Sprintf("%s: check %s is %s", what, worst, status))}
	case len(checks) == 0:
		return passing("%s has no checks", what)
	}
	return passing("%s: all checks pass", what)
}

// looksAt reports whether c is an alias of what own belongs to.
func looksAt(c, own *registry.Check) bool {
	d := c.Definition
	if d == nil || d.Kind != registry.CheckAlias {
		return false
	}
	node := d.AliasNode
	if node == "" {
		node = c.Node
	}
	return registry.Fold(node) == registry.Fold(own.Node) && (own.InstanceID == "" || d.AliasInstance == own.InstanceID)
}
