package source

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/resolverd/resolverd/registry"
	"go.yaml.in/yaml/v3"
)

// maxVisits bounds how many nodes of a file are looked at, aliases followed: a small
// file can say by aliases of aliases what would take for ever to read.
const maxVisits = 1 << 20

// decoder reads one file's tree and collects its faults.
type decoder struct {
	file   string
	out    *File
	visits int
	faults Faults
	notes  Faults // what is left out, and is no fault
}

func (d *decoder) fault(n *yaml.Node, hint, format string, args ...any) {
	if len(d.faults) < maxFaults {
		d.faults = append(d.faults, Fault{d.file, n.Line, fmt.Sprintf(format, args...), hint})
	}
}

func (d *decoder) note(n *yaml.Node, format string, args ...any) {
	if len(d.notes) < maxFaults {
		d.notes = append(d.notes, Fault{File: d.file, Line: n.Line, What: fmt.Sprintf(format, args...)})
	}
}

// follow returns the node that n stands for, or nil for null and where the file is too
// much.
func (d *decoder) follow(n *yaml.Node) *yaml.Node {
	if d.visits++; d.visits > maxVisits {
		if d.visits == maxVisits+1 {
			d.fault(n, "", "too much in one file")
		}
		return nil
	}
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil
	}
	return n
}

// fields are the keys of an object, as canonical writes them, with what reads each.
type fields map[string]func(n *yaml.Node)

// canonical folds the ways to write a key into one: check_id, CheckID and check-id.
func canonical(key string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(registry.Fold(key))
}

// object reads a mapping. what names it for people; names are the keys as a hint should
// show them.
func (d *decoder) object(n *yaml.Node, what string, f fields, names []string) {
	if n.Kind != yaml.MappingNode {
		d.fault(n, "", "%s must be a mapping of keys to values", what)
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			d.fault(k, "", "a key of %s must be a word", what)
			continue
		}
		if k.Value == "<<" {
			d.fault(k, "repeat the keys", "merging by << is not supported")
			continue
		}
		c := canonical(k.Value)
		if first, twice := seen[c]; twice {
			d.fault(k, "", "%q is in the same %s already, on line %d", clip(k.Value), what, first)
			continue
		}
		seen[c] = k.Line
		read, ok := f[c]
		if !ok {
			hint := ""
			if near := nearest(registry.Fold(k.Value), names); near != "" {
				hint = "did you mean " + near + "?"
			}
			d.fault(k, hint, "%s has no key %q", what, clip(k.Value))
			continue
		}
		if v = d.follow(v); v != nil {
			read(v)
		}
	}
}

// list reads a sequence.
func (d *decoder) list(n *yaml.Node, what string, each func(n *yaml.Node)) {
	if n.Kind != yaml.SequenceNode {
		d.fault(n, "", "%s must be a list", what)
		return
	}
	for _, c := range n.Content {
		if c = d.follow(c); c != nil {
			each(c)
		}
	}
}

// pairs reads a mapping with keys of the user's own.
func (d *decoder) pairs(n *yaml.Node, what string, each func(key string, v *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		d.fault(n, "", "%s must be a mapping of keys to values", what)
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		switch {
		case k.Kind != yaml.ScalarNode:
			d.fault(k, "", "a key of %s must be a word", what)
			continue
		case seen[k.Value]:
			d.fault(k, "", "%q is in %s twice", clip(k.Value), what)
			continue
		}
		seen[k.Value] = true
		if v = d.follow(v); v != nil {
			each(k.Value, v)
		}
	}
}

// text reads a scalar as it is written, numbers too: meta and ids are often numbers.
func (d *decoder) text(what string, to *string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode {
			d.fault(n, "", "%s must be a string", what)
			return
		}
		*to = n.Value
	}
}

func (d *decoder) texts(what string, to *[]string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		d.list(n, what, func(n *yaml.Node) {
			s := ""
			d.text("each of "+what, &s)(n)
			*to = append(*to, s)
		})
	}
}

func (d *decoder) flag(what string, to *bool) func(*yaml.Node) {
	return func(n *yaml.Node) {
		switch strings.ToLower(n.Value) {
		case "true":
			*to = true
		case "false":
			*to = false
		default:
			d.fault(n, "", "%s must be true or false", what)
		}
	}
}

// number reads an integer of low to high.
func number[T int | uint16](d *decoder, what string, low, high int, to *T) func(*yaml.Node) {
	return func(n *yaml.Node) {
		v, err := strconv.Atoi(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil || v < low || v > high {
			d.fault(n, fmt.Sprintf("%d to %d", low, high), "%s cannot be %s", what, shown(n))
			return
		}
		*to = T(v)
	}
}

func (d *decoder) duration(what string, to *registry.Duration) func(*yaml.Node) {
	return func(n *yaml.Node) {
		v, err := time.ParseDuration(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil || v < 0 {
			d.fault(n, "a number with a unit, as 5s, 500ms or 2m", "%s cannot be %s", what, shown(n))
			return
		}
		*to = registry.Duration(v)
	}
}

func (d *decoder) host(what string, to *registry.Host) func(*yaml.Node) {
	return func(n *yaml.Node) {
		v, err := registry.ParseHost(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil {
			d.fault(n, "an IP address or a host name", "%s cannot be %s", what, shown(n))
			return
		}
		*to = v
	}
}

// ignore reads a key of Consul's that means nothing here.
func (d *decoder) ignore(key, why string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Value == "" && len(n.Content) == 0 {
			return
		}
		d.note(n, "%s is left out: %s", key, why)
	}
}

// refuse reads a key that must not be passed over in silence.
func (d *decoder) refuse(key, hint string) func(*yaml.Node) {
	return func(n *yaml.Node) { d.fault(n, hint, "%s is not supported", key) }
}

// shown is a value for people.
func shown(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return strconv.Quote(clip(n.Value))
}

func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "..."
	}
	return s
}
