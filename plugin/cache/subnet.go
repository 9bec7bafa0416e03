package cache

import (
	"context"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	engine "github.com/resolverd/resolverd/cache"
)

// The longest prefixes of clients that responses are kept for: what RFC 7871, section
// 11.1 has resolvers send. A longer one would be as good as an address.
const (
	maxSubnet4 = 24
	maxSubnet6 = 56
)

// subnet is the EDNS Client Subnet option of a query (RFC 7871).
type subnet struct {
	option *dns.EDNS0_SUBNET
	prefix netip.Prefix // not valid where the client wants no address used (source 0)
}

// subnetOf returns the option of a query, nil for none. It says no for a malformed one,
// which is a FORMERR (section 7.1.2): a scope in a query, or bits behind the prefix.
func subnetOf(r *dns.Msg) (*subnet, bool) {
	opt := r.IsEdns0()
	if opt == nil {
		return nil, true
	}
	for _, o := range opt.Option {
		e, ok := o.(*dns.EDNS0_SUBNET)
		if !ok {
			continue
		}
		s := &subnet{option: e}
		if e.SourceScope != 0 {
			return nil, false
		}
		if e.SourceNetmask == 0 {
			return s, e.Address == nil || e.Address.IsUnspecified()
		}
		a, ok := netip.AddrFromSlice(e.Address)
		if a = a.Unmap(); !ok || e.Family == 1 != a.Is4() {
			return nil, false
		}
		p := netip.PrefixFrom(a, int(e.SourceNetmask))
		if !p.IsValid() || p.Masked() != p {
			return nil, false
		}
		s.prefix = p
		return s, true
	}
	return nil, true
}

// kept says whether responses to the subnet are kept at all.
func (s *subnet) kept() bool {
	switch {
	case !s.prefix.IsValid():
		return true
	case s.prefix.Addr().Is4():
		return s.prefix.Bits() <= maxSubnet4
	}
	return s.prefix.Bits() <= maxSubnet6
}

// scope returns whom a response is for: the clients of the SCOPE PREFIX-LENGTH, no longer
// than what was asked for (section 7.3.1). A denial is for all (section 7.4), and so is a
// response without the option (section 7.3). What was asked for without an address is for
// those who ask so.
func (s *subnet) scope(m *dns.Msg) engine.Scope {
	if !s.prefix.IsValid() {
		return engine.Scope{}
	}
	bits := 0
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_SUBNET); ok {
				bits = min(int(e.SourceScope), s.prefix.Bits())
			}
		}
	}
	if len(m.Answer) == 0 {
		bits = 0
	}
	p, err := s.prefix.Addr().Prefix(bits)
	if err != nil {
		return engine.Scope{Prefix: s.prefix}
	}
	return engine.Scope{Prefix: p}
}

// String tells subnets apart; a nil one is "".
func (s *subnet) String() string {
	if s == nil {
		return ""
	}
	return engine.Scope{Prefix: s.prefix}.String() + " "
}

// find is peek, and counts the query.
func (s *subnet) find(store *engine.Cache, key []byte, now time.Time) *engine.Entry {
	e := s.peek(store, key, now)
	if e == nil {
		return store.Find(scopedKey(key, engine.Scope{Prefix: s.prefix}), now, 0) // a miss
	}
	return store.Find(e.Key(), now, 0)
}

// peek returns the fresh entry for the client with the longest scope, or nil.
func (s *subnet) peek(store *engine.Cache, key []byte, now time.Time) *engine.Entry {
	if !s.prefix.IsValid() {
		if e := store.Peek(scopedKey(key, engine.Scope{})); e != nil && !e.Stale(now) {
			return e
		}
		return nil
	}
	for bits := s.prefix.Bits(); bits >= 0; bits-- {
		p, err := s.prefix.Addr().Prefix(bits)
		if err != nil {
			return nil
		}
		if e := store.Peek(scopedKey(key, engine.Scope{Prefix: p})); e != nil && !e.Stale(now) {
			return e
		}
	}
	return nil
}

func scopedKey(key []byte, s engine.Scope) []byte {
	return engine.AppendScope(append(make([]byte, 0, engine.MaxKey), key...), s)
}

// answer puts the option into a response: the query's, and for whom it is.
func (s *subnet) answer(r, m *dns.Msg, scope engine.Scope) {
	asked := r.IsEdns0()
	opt := m.IsEdns0()
	if opt == nil {
		m.SetEdns0(asked.UDPSize(), asked.Do())
		opt = m.IsEdns0()
	}
	e := *s.option
	if scope.Prefix.IsValid() {
		e.SourceScope = uint8(scope.Prefix.Bits())
	}
	opt.Option = append(opt.Option, &e)
}

// serveSubnet answers a query with the option. There is no prefetching and nothing stale:
// these are few, and each subnet's clients are fewer.
func (h *Handler) serveSubnet(ctx context.Context, w dns.ResponseWriter, q *query) (int, error) {
	q.series.requests.Inc()
	if e := q.subnet.find(h.store, q.key, q.now); e != nil {
		q.series.hits[class(e.Kind())].Inc()
		return h.give(ctx, w, q, e)
	}
	q.series.misses.Inc()
	return h.miss(ctx, w, q)
}
