package horizon

import (
	"net/netip"
	"strings"

	"github.com/coredns/coredns/plugin"
	"github.com/gaissmai/bart"
	"github.com/miekg/dns"
)

// Classes tells clients apart exactly as far as the horizons of a Corefile may. It is
// immutable; any number of goroutines may ask it.
type Classes struct {
	table bart.Table[uint32]
}

// ClassesOf returns the classes that the Corefile's horizons make, h being the handler
// of this plugin in any block. It returns nil for another handler and where no zone has
// horizons.
func ClassesOf(h plugin.Handler) *Classes {
	var p *plan
	switch h := h.(type) {
	case *guard:
		p = h.plan
	case view:
		p = h.plan
	default:
		return nil
	}
	var all bart.Table[*Set]
	for _, zones := range p.servers {
		for _, g := range zones {
			for prefix, s := range g.sets.All() {
				all.Insert(prefix, s)
			}
		}
	}
	if all.Size() == 0 {
		return nil
	}
	// A zone knows some of the horizons only. What decides in any of them is which sets
	// have a prefix around the client, in the order of the prefixes' lengths.
	c := &Classes{}
	known := map[string]uint32{}
	for prefix := range all.All() {
		var around []string
		for _, s := range all.Supernets(prefix) { // longest first
			if n := len(around); n == 0 || around[n-1] != s.Name {
				around = append(around, s.Name)
			}
		}
		signature := strings.Join(around, " ")
		id, ok := known[signature]
		if !ok {
			id = uint32(len(known) + 1)
			known[signature] = id
		}
		c.table.Insert(prefix, id)
	}
	return c
}

// Of returns the class of a client, 0 for one in no horizon. IPv4 clients are IPv4
// addresses.
func (c *Classes) Of(client netip.Addr) uint32 {
	id, _ := c.table.Lookup(client.WithZone(""))
	return id
}

// Admits says whether the block of h, the handler of this plugin in it, answers the
// client for names whose closest zone on the listener is this one. For another handler,
// and a nil one, it is true: nothing parts the clients.
func Admits(h plugin.Handler, listener, zone string, client netip.Addr) bool {
	var g *guard
	switch h := h.(type) {
	case *guard:
		g = h
	case view:
		g = h.guard
	default:
		return true
	}
	ok, _ := g.plan.admits(g.block, listener, zone, dns.TypeA, client)
	return ok
}
