package horizon

import (
	"net/netip"
	"strings"

	"github.com/gaissmai/bart"
	"github.com/miekg/dns"
)

// plan says for every listener and zone of one Corefile which block a client gets. It
// is immutable once built; any number of goroutines may ask it.
type plan struct {
	servers map[string]map[string]*group // listener (dnsserver.Server.Addr) to zone
}

// group is all blocks of one zone on one listener.
type group struct {
	zone    string
	sets    bart.Table[*Set] // of all blocks; empty where no block names a horizon
	first   *block           // the first block that names a horizon: it refuses
	open    bool             // a block without a horizon takes the rest
	members map[*block]bool
}

// block is one server block.
type block struct {
	sets []*Set // the horizons that it names, none for a block without
}

func (p *plan) group(addr, zone string) *group {
	zones := p.servers[addr]
	if zones == nil {
		zones = map[string]*group{}
		p.servers[addr] = zones
	}
	g := zones[zone]
	if g == nil {
		g = &group{zone: zone, members: map[*block]bool{}}
		zones[zone] = g
	}
	return g
}

// join adds a block to the zone.
func (g *group) join(b *block) {
	g.members[b] = true
	if len(b.sets) == 0 {
		g.open = true
		return
	}
	if g.first == nil {
		g.first = b
	}
	for _, s := range b.sets {
		for _, p := range s.Prefixes {
			g.sets.Insert(p, s)
		}
	}
}

// parted says whether the zone has horizons at all.
func (g *group) parted() bool { return g.first != nil }

// set returns the horizon of the client: that of the longest prefix, or nil.
func (g *group) set(client netip.Addr) *Set {
	if !client.IsValid() {
		return nil
	}
	s, _ := g.sets.Lookup(client)
	return s
}

// serves says whether b is a block for the client.
func (g *group) serves(b *block, client netip.Addr) bool {
	s := g.set(client)
	if s == nil {
		return len(b.sets) == 0
	}
	for _, own := range b.sets {
		if own == s {
			return true
		}
	}
	return false
}

// refuses says whether no block of the zone is for the client.
func (g *group) refuses(client netip.Addr) bool {
	return g.parted() && !g.open && g.set(client) == nil
}

// pass is dnsserver's question whether b gets the query. Where no block is for the
// client the first one gets it, to refuse it.
func (g *group) pass(b *block, client netip.Addr) bool {
	if g.refuses(client) {
		return b == g.first
	}
	return g.serves(b, client)
}

// closest returns the zone on the listener that encloses the name most closely, or nil.
func (p *plan) closest(addr, qname string) *group {
	zones := p.servers[addr]
	if zones == nil {
		return nil
	}
	q := strings.ToLower(qname)
	for off, end := 0, false; !end; off, end = dns.NextLabel(q, off) {
		if g := zones[q[off:]]; g != nil {
			return g
		}
	}
	return zones["."]
}

// admits is the guard's question: may block b, to which dnsserver gave this query,
// answer it? It may if it is for the client in the zone that encloses the name most
// closely. DS queries (RFC 4035, section 3.1.4.1) belong to the parent's block: they
// pass if the client has a block in the child's zone, too.
func (p *plan) admits(b *block, addr, qname string, qtype uint16, client netip.Addr) (ok bool, zone string) {
	g := p.closest(addr, qname)
	if g == nil || !g.parted() {
		return true, ""
	}
	if g.refuses(client) {
		return false, g.zone
	}
	if g.members[b] {
		return g.serves(b, client), g.zone
	}
	return qtype == dns.TypeDS, g.zone
}
