// Package scene writes a registry in a few lines of text, for tests.
//
// Flow: [Apply] reads lines -> records -> one batch that is applied to a view, at the
// revision after the view's. One line is one part of the model:
//
//	node NAME [ADDRESS] [network.NAME=ADDRESS] [meta.KEY=VALUE] [zone=Z]
//	instance NODE/ID SERVICE [[ADDRESS]:PORT] [tags=A,B] [weight=PASSING[/WARNING]] [priority=N]
//	         [port.NAME=N] [network.NAME=ADDRESS] [drain]
//	check NODE/ID INSTANCE|- passing|warning|critical [never]
//	role NAME SERVICE [NODE/ID]
//	delete node NAME | instance NODE/ID | check NODE/ID | role NAME
//
// "never" is a check that has not reported yet. The package is for tests only: it checks
// nothing that the API would.
package scene

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/resolverd/resolverd/registry"
)

// Apply adds the lines to the view as one batch.
func Apply(v *registry.View, lines string) error {
	rev := v.Load().Revision + 1
	b := registry.Batch{Revision: rev}
	for n, line := range strings.Split(lines, "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		k, part, err := parse(words)
		if err != nil {
			return fmt.Errorf("scene: line %d: %w", n+1, err)
		}
		r := registry.Record{Key: k, Created: rev, Modified: rev}
		if part != nil {
			r.Value = registry.Encode(part)
		}
		b.Records = append(b.Records, r)
	}
	return v.Apply(b)
}

// New returns a view that holds the lines, and panics where they are wrong.
func New(lines string) *registry.View {
	v := registry.NewView()
	if err := Apply(v, lines); err != nil {
		panic(err)
	}
	return v
}

func parse(w []string) (registry.Key, any, error) {
	verb, args := w[0], w[1:]
	need := map[string]int{"node": 1, "instance": 2, "check": 3, "role": 2, "delete": 2}
	if n, ok := need[verb]; !ok || len(args) < n {
		return registry.Key{}, nil, fmt.Errorf("%q: unknown verb or too few words", strings.Join(w, " "))
	}
	switch verb {
	case "node":
		return node(args)
	case "instance":
		return instance(args)
	case "check":
		n, id, _ := strings.Cut(args[0], "/")
		c := &registry.Check{Node: n, ID: id, InstanceID: strings.TrimPrefix(args[1], "-"), Status: registry.Status(args[2]), Ran: len(args) < 4}
		return registry.CheckKey(n, id), c, nil
	case "role":
		r := &registry.Role{Name: args[0], Service: args[1], Epoch: 1}
		if len(args) > 2 {
			n, id, _ := strings.Cut(args[2], "/")
			r.Holder = &registry.InstanceKey{Node: n, ID: id}
		}
		return registry.RoleKey(args[0]), r, nil
	}
	n, id, _ := strings.Cut(args[1], "/")
	switch args[0] {
	case "node":
		return registry.NodeKey(n), nil, nil
	case "instance":
		return registry.InstanceRecordKey(n, id), nil, nil
	case "check":
		return registry.CheckKey(n, id), nil, nil
	case "role":
		return registry.RoleKey(n), nil, nil
	}
	return registry.Key{}, nil, fmt.Errorf("delete %q", args[0])
}

func node(args []string) (registry.Key, any, error) {
	n := &registry.Node{Name: args[0]}
	for _, a := range args[1:] {
		name, value, pair := strings.Cut(a, "=")
		var err error
		switch {
		case !pair:
			n.Address, err = registry.ParseHost(a)
		case name == "zone":
			n.Zone = value
		case strings.HasPrefix(name, "meta."):
			set(&n.Meta, name[5:], value)
		case strings.HasPrefix(name, "network."):
			var h registry.Host
			h, err = registry.ParseHost(value)
			set(&n.Networks, name[8:], h)
		default:
			err = fmt.Errorf("node: %q", a)
		}
		if err != nil {
			return registry.Key{}, nil, err
		}
	}
	return registry.NodeKey(n.Name), n, nil
}

func instance(args []string) (registry.Key, any, error) {
	on, id, _ := strings.Cut(args[0], "/")
	i := &registry.Instance{Node: on, ID: id, Service: args[1], Weights: registry.DefaultWeights, Owner: registry.OwnerAPI}
	for _, a := range args[2:] {
		if err := attribute(i, a); err != nil {
			return registry.Key{}, nil, err
		}
	}
	return registry.InstanceRecordKey(on, id), i, nil
}

func attribute(i *registry.Instance, a string) (err error) {
	name, value, pair := strings.Cut(a, "=")
	switch {
	case a == "drain":
		i.Drain = true
	case !pair:
		at := strings.LastIndexByte(a, ':')
		if at < 0 {
			return fmt.Errorf("instance: %q is no ADDRESS:PORT", a)
		}
		if i.Port, err = number(a[at+1:]); err == nil {
			i.Address, err = registry.ParseHost(strings.Trim(a[:at], "[]"))
		}
	case name == "tags":
		i.Tags = strings.Split(value, ",")
	case name == "weight":
		p, w, two := strings.Cut(value, "/")
		if i.Weights.Passing, err = number(p); err == nil && two {
			i.Weights.Warning, err = number(w)
		}
	case name == "priority":
		i.Priority, err = number(value)
	case strings.HasPrefix(name, "port."):
		var p uint16
		p, err = number(value)
		i.Ports = append(i.Ports, registry.NamedPort{Name: name[5:], Port: p})
	case strings.HasPrefix(name, "network."):
		var h registry.Host
		h, err = registry.ParseHost(value)
		set(&i.Networks, name[8:], registry.Endpoint{Address: h})
	default:
		err = fmt.Errorf("instance: %q", a)
	}
	return err
}

func number(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err
}

func set[V any](m *map[string]V, k string, v V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[k] = v
}
