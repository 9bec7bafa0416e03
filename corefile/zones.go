package corefile

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/coredns/coredns/plugin/pkg/transport"
)

// served is one zone on one address, and the block that answers there.
type served struct {
	listen
	host  netip.Addr
	block *Block
}

// overlaps returns a fault for every zone that two blocks would answer on one address.
// dnsserver finds most of it, too, but names no line, and looks not at blocks with
// filters, of which `horizon` makes some.
func (l *Loaded) overlaps() Faults {
	var faults Faults
	var seen []served
	for i := range l.Blocks {
		b := &l.Blocks[i]
		hosts := b.hosts()
		told := map[string]bool{} // one fault a zone is enough
		for _, k := range b.listens() {
			for _, h := range hosts {
				s := served{k, h, b}
				for _, o := range seen {
					if f := s.clash(o); f != nil && !told[f.Text] {
						told[f.Text] = true
						faults = append(faults, f)
					}
				}
				seen = append(seen, s)
			}
		}
	}
	return faults
}

// clash returns what is wrong between s and the earlier o, or nil.
func (s served) clash(o served) *Fault {
	if s.listen != o.listen {
		return nil
	}
	// Of two views CoreDNS takes the first whose expression holds.
	if s.block.has("view") || o.block.has("view") {
		return nil
	}
	f := &Fault{File: s.block.place.file, Line: s.block.place.line}
	zone := fmt.Sprintf("zone %s on port %d", s.zone, s.port)
	if s.transport != transport.DNS {
		zone += " (" + s.transport + ")"
	}
	other := "the block at " + o.block.place.String()
	if s.block == o.block {
		other = "this block already"
	}
	mine, theirs := s.block.horizons(), o.block.horizons()
	switch {
	case s.host == o.host && len(mine) == 0 && len(theirs) == 0:
		f.Text = fmt.Sprintf("%s is answered by %s", zone, other)
		f.Hint = "make one block of them, `bind` them to different addresses, or tell their clients apart with `horizon`"
	case s.host == o.host:
		for _, h := range mine {
			if slices.Contains(theirs, h) {
				f.Text = fmt.Sprintf("%s for horizon %s is answered by %s", zone, h, other)
				f.Hint = "make one block of them"
				return f
			}
		}
		return nil
	case s.host.IsUnspecified() || o.host.IsUnspecified():
		f.Text = fmt.Sprintf("%s is answered on all addresses here and on single ones by %s, or the other way round", zone, other)
		f.Hint = "`bind` both to single addresses, or neither"
	default:
		return nil
	}
	return f
}

// has says whether the block uses the directive.
func (b *Block) has(name string) bool {
	return slices.ContainsFunc(b.uses, func(u use) bool { return u.name == name })
}

// horizons returns the names of the block's horizons.
func (b *Block) horizons() []string {
	var names []string
	for _, u := range b.uses {
		if u.name == "horizon" && len(u.tokens) > 1 {
			names = append(names, u.tokens[1].Text)
		}
	}
	return names
}

// resolvers are the directives that ask others on behalf of any client.
var resolvers = []string{"forward", "grpc"}

// exposed are the directives that say who may ask.
var exposed = []string{"acl", "horizon", "view", "tsig"}

// openResolvers warns of blocks that would ask others for anybody.
func (l *Loaded) openResolvers() {
	for i := range l.Blocks {
		b := &l.Blocks[i]
		if !slices.ContainsFunc(resolvers, b.has) || slices.ContainsFunc(exposed, b.has) {
			continue
		}
		var public []string
		for _, h := range b.hosts() {
			if !within(h) {
				public = append(public, h.String())
			}
		}
		if public == nil {
			continue
		}
		where := strings.Join(public, ", ")
		if slices.ContainsFunc(b.hosts(), netip.Addr.IsUnspecified) {
			where = "all addresses of this host"
		}
		bound := ""
		if !b.has("rrl") {
			bound = "; if it is meant for all, bound with `rrl` what each may have sent to others"
		}
		l.Warnings = append(l.Warnings, fmt.Sprintf(
			"%s: OPEN RESOLVER: this block forwards for every client and listens on %s; strangers can use it for attacks: `bind` inner addresses, or say with `acl` who may ask%s",
			b.place, where, bound))
	}
}

// shared is the address space between provider and customer (RFC 6598).
var shared = netip.MustParsePrefix("100.64.0.0/10")

// within says whether an address can be reached from one's own networks only.
func within(a netip.Addr) bool {
	return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || shared.Contains(a)
}
