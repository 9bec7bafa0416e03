package rrl

import (
	"encoding/hex"
	"slices"

	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/internal/cookie"
)

// cut returns the content of the query's COOKIE option, not nil if there is one, and the
// query without any: a cookie concerns two neighbours, not those whom we ask (RFC 7873,
// section 3). Of several the first counts. r is not changed.
func cut(r *dns.Msg) ([]byte, *dns.Msg) {
	opt := r.IsEdns0()
	if opt == nil {
		return nil, r
	}
	i := slices.IndexFunc(opt.Option, isCookie)
	if i < 0 {
		return nil, r
	}
	option := []byte{}
	if c, ok := opt.Option[i].(*dns.EDNS0_COOKIE); ok {
		option, _ = hex.DecodeString(c.Cookie) // the library made it from octets
	}
	return option, replace(r, opt, nil)
}

// dress returns m with the cookie in its OPT, which it gets where the query has one and m
// has not. m is not changed.
func dress(m, query *dns.Msg, c cookie.Cookie) *dns.Msg {
	option := &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: hex.EncodeToString(c[:])}
	if opt := m.IsEdns0(); opt != nil {
		return replace(m, opt, option)
	}
	asked := query.IsEdns0()
	out := *m
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}, Option: []dns.EDNS0{option}}
	opt.SetUDPSize(asked.UDPSize())
	opt.SetDo(asked.Do())
	out.Extra = append(slices.Clip(slices.Clone(m.Extra)), opt)
	return &out
}

// replace returns a copy of m whose OPT, which is opt in m, has the option in the place of
// all cookies, or none where it is nil.
func replace(m *dns.Msg, opt *dns.OPT, option *dns.EDNS0_COOKIE) *dns.Msg {
	out, other := *m, *opt
	other.Option = slices.DeleteFunc(slices.Clone(opt.Option), isCookie)
	if option != nil {
		other.Option = append(other.Option, option)
	}
	out.Extra = slices.Clone(m.Extra)
	out.Extra[slices.Index(out.Extra, dns.RR(opt))] = &other
	return &out
}

func isCookie(o dns.EDNS0) bool { return o.Option() == dns.EDNS0COOKIE }
