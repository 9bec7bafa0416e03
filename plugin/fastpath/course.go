package fastpath

import (
	"net"
	"net/netip"
	"slices"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metrics"
	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/internal/answer"
	engine "github.com/resolverd/resolverd/internal/fastpath"
	"github.com/resolverd/resolverd/internal/ratelimit"
	"github.com/resolverd/resolverd/plugin/cache"
	"github.com/resolverd/resolverd/plugin/forward"
	"github.com/resolverd/resolverd/plugin/horizon"
	"github.com/resolverd/resolverd/plugin/rrl"
)

// course is how a plain query that the cache lacks goes through a block to its upstreams
// without the chain: past plugins of which it was shown that they have no part in it.
type course struct {
	block   *block
	cache   *cache.Wire
	forward forward.Wire
	metrics *metrics.Metrics   // nil without prometheus
	limit   *ratelimit.Limiter // nil without rrl
	watches *engine.Watches    // who writes down each response, or nil
	server  string
	view    string
	zone    string // the metrics' label
}

// courses says which course a query takes. It is immutable.
type courses struct {
	listener string
	regions  map[string]*region // by zone in wire form, lower case
	labels   int                // of the longest of these zones
}

// region is a zone and what is below it, as far as no other region begins there. Without
// ways it is the chain's.
type region struct {
	zone string
	ways []way
}

// way is one block's part of a region; its course is nil where the chain answers.
type way struct {
	horizon plugin.Handler // nil where nothing parts the clients
	course  *course
}

// concerned is a plugin that has no part in what is outside some zones.
type concerned interface {
	plugin.Handler
	// Concerns returns zones in presentation form and lower case.
	Concerns() []string
}

// indifferent are the plugins that have no part in any plain query of class IN for a type
// of data, but for what the engine and the course do themselves.
var indifferent = []string{
	"resolverd_block", // by form, which is plain; the size that it lowers is lowered here
	"nsid", "debug", "bind", "ready", "health", "pprof", pluginName,
	"prometheus", // counted for it
	"errors",     // logs errors, which are left to the chain
	"horizon",    // asked
	"chaos",      // another class
	"any",        // no type of data
}

// courseOf returns the block's course on the listener but for the zone, and the zones
// whose names it must not take; or why there is none.
func (b *block) courseOf(server string, local net.Addr) (c course, not []string, why string) {
	cfg := b.configs[0]
	c = course{block: b, server: server, view: cfg.ViewName}
	var watches []answer.Watch
	var forwards []*forward.Forward
	ok := false
	handlers := cfg.Handlers()
	for _, h := range handlers {
		switch h := h.(type) {
		case *cache.Handler:
			if c.cache, ok = h.Wire(server); !ok {
				return c, nil, "cache has names that it does not keep"
			}
			for _, cfg := range b.configs {
				if plugin.Zones(h.Zones()).Matches(cfg.Zone) == "" {
					return c, nil, "cache does not cover all of the block"
				}
			}
			continue
		case *metrics.Metrics:
			c.metrics = h
			continue
		case *forward.Forward:
			forwards = h.All()
			continue
		case *rrl.Handler:
			c.limit = h.Limiter()
			continue
		case answer.Witness:
			watches = append(watches, h.Witness(local))
			continue
		case concerned:
			not = append(not, h.Concerns()...)
			continue
		}
		if !slices.Contains(indifferent, h.Name()) {
			return c, nil, h.Name() + " sees each message"
		}
	}
	switch {
	case c.cache == nil:
		return c, nil, "cache is not in it"
	case len(forwards) == 0:
		return c, nil, "forward is not in it"
	}
	if c.watches, ok = engine.NewWatches(watches); !ok {
		return c, nil, "too many want to be told of its answers"
	}
	last := len(forwards) - 1
	if len(cfg.Plugin) != len(handlers)+last {
		return c, nil, "a plugin is in it that is no directive"
	}
	var except []string
	if c.forward, except, ok = forwards[last].Wire(forwards[:last]); !ok {
		return c, nil, "forward has more to do than to give the reply"
	}
	if c.metrics != nil {
		for _, z := range c.metrics.ZoneNames() {
			if cfg.Zone != z && dns.IsSubDomain(cfg.Zone, z) {
				not = append(not, z) // it has a label of its own
			}
		}
	}
	return c, append(not, except...), ""
}

// plan lays out the courses of a listener, and notes in each block why it has none.
func (l *listener) plan() *courses {
	p := &courses{listener: l.name, regions: map[string]*region{}}
	var not []string
	for _, b := range l.blocks {
		c, others, why := b.courseOf(l.name, net.UDPAddrFromAddrPort(l.addr))
		if b.relay = why; b.reason != "" {
			b.relay = b.reason
		}
		not = append(not, others...)
		for _, cfg := range b.configs {
			if !slices.Contains(l.configs, cfg) {
				continue
			}
			w := way{horizon: b.configs[0].Handler("horizon")}
			if b.relay == "" && dns.IsSubDomain(c.forward.From(), cfg.Zone) && plugin.Zones(others).Matches(cfg.Zone) == "" {
				own := c
				own.zone = c.label(cfg.Zone)
				w.course = &own
			}
			r := p.region(cfg.Zone)
			r.ways = append(r.ways, w)
		}
	}
	for _, z := range not {
		p.region(z) // the chain's, unless a block has it
	}
	return p
}

// relays says whether any query takes a course.
func (p *courses) relays() bool {
	for _, r := range p.regions {
		if slices.ContainsFunc(r.ways, func(w way) bool { return w.course != nil }) {
			return true
		}
	}
	return false
}

// label returns the zone that the metrics name for names in the block's zone: none of
// those that are below it has a name on this course.
func (c *course) label(zone string) string {
	if c.metrics != nil {
		if z := plugin.Zones(c.metrics.ZoneNames()).Matches(zone); z != "" {
			return z
		}
	}
	return "."
}

// region returns the region of a zone, made where there is none.
func (p *courses) region(zone string) *region {
	var buf [256]byte
	n, err := dns.PackDomainName(dns.CanonicalName(zone), buf[:], 0, nil, false)
	if err != nil {
		return &region{} // no name is in it
	}
	wire := string(buf[:n])
	r := p.regions[wire]
	if r == nil {
		r = &region{zone: dns.CanonicalName(zone)}
		p.regions[wire] = r
		p.labels = max(p.labels, dns.CountLabel(zone))
	}
	return r
}

// find returns the region of a name in wire form and lower case, or nil.
func (p *courses) find(name []byte) *region {
	labels := 0
	for i := 0; name[i] != 0; i += 1 + int(name[i]) {
		labels++
	}
	for {
		if labels <= p.labels {
			if r := p.regions[string(name)]; r != nil {
				return r
			}
		}
		if labels == 0 {
			return nil
		}
		name = name[1+int(name[0]):]
		labels--
	}
}

// choose returns the course for a client, or nil.
func (r *region) choose(listener string, client netip.Addr) *course {
	for _, w := range r.ways {
		if w.horizon == nil || horizon.Admits(w.horizon, listener, r.zone, client) {
			return w.course
		}
	}
	return nil
}
