package registry

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// use moves the addresses of a node or instance from what it used to what it uses. No two
// nodes or instances have the same AddrUse.
func (w *builder) use(was, now map[netip.Addr]AddrUse) {
	for a, u := range was {
		if now[a] != u {
			w.reuse(a, u, false)
		}
	}
	for a, u := range now {
		if was[a] != u {
			w.reuse(a, u, true)
		}
	}
}

func (w *builder) reuse(a netip.Addr, u AddrUse, add bool) {
	w.eff.addrs = true
	list, _ := w.addrs.get(a)
	at, there := slices.BinarySearchFunc(list, u, func(x, y AddrUse) int {
		return cmp.Or(strings.Compare(x.Service, y.Service), strings.Compare(x.Node, y.Node), strings.Compare(x.Label, y.Label))
	})
	if there == add {
		return
	}
	next := make([]AddrUse, 0, len(list)+1)
	next = append(next, list[:at]...)
	if add {
		next = append(append(next, u), list[at:]...)
	} else {
		next = append(next, list[at+1:]...)
	}
	if len(next) == 0 {
		w.addrs.remove(a)
		return
	}
	w.addrs.set(a, next)
}

func nodeUses(n *Node) map[netip.Addr]AddrUse {
	m := map[netip.Addr]AddrUse{}
	add := func(h Host) {
		if a, ok := h.Addr(); ok {
			m[a] = AddrUse{Node: n.Name}
		}
	}
	add(n.Address)
	for _, h := range n.Networks {
		add(h)
	}
	return m
}

func instanceUses(i *InstanceState) map[netip.Addr]AddrUse {
	if i == nil {
		return nil
	}
	m := map[netip.Addr]AddrUse{}
	add := func(h Host) {
		if a, ok := h.Addr(); ok {
			m[a] = AddrUse{Node: i.Node, Service: i.Service, Label: i.Label}
		}
	}
	add(i.Address)
	for _, e := range i.Networks {
		add(e.Address)
	}
	return m
}
