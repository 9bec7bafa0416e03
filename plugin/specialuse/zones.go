package specialuse

import (
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// special is a zone that is served here. Names below it do not exist, but for those in
// names, and in localhost, where every name is the loopback.
type special struct {
	origin string
	// rfc says why, in the words of an Extended DNS Error.
	rfc string
	// loopback answers every name with 127.0.0.1 and ::1.
	loopback bool
	// nodata answers every name with NODATA.
	nodata bool
	// pointer is the one name that has a PTR, to localhost; "" for none.
	pointer string
}

// table holds every special zone by its origin.
var table = makeTable()

func makeTable() map[string]*special {
	t := map[string]*special{}
	add := func(rfc string, origins ...string) {
		for _, o := range origins {
			t[o] = &special{origin: o, rfc: rfc}
		}
	}
	add("RFC 6761", "localhost.", "invalid.", "test.")
	add("RFC 6762", "local.")
	add("RFC 7686", "onion.")
	add("RFC 8375", "home.arpa.")
	add("RFC 9462", "resolver.arpa.")
	t["localhost."].loopback = true
	t["resolver.arpa."].nodata = true

	const v4, v6 = ".in-addr.arpa.", ".ip6.arpa."
	for _, net := range []string{"10", "168.192", "0", "127", "254.169", "2.0.192", "100.51.198", "113.0.203", "255.255.255.255"} {
		add("RFC 6303", net+v4)
	}
	for n := 16; n < 32; n++ {
		add("RFC 6303", strconv.Itoa(n)+".172"+v4)
	}
	for n := 64; n < 128; n++ {
		add("RFC 7793", strconv.Itoa(n)+".100"+v4)
	}
	zeros := strings.Repeat(".0", 31)
	add("RFC 6303", "0"+zeros+v6, "1"+zeros+v6, "d.f"+v6, "8.e.f"+v6, "9.e.f"+v6, "a.e.f"+v6, "b.e.f"+v6, "8.b.d.0.1.0.0.2"+v6)
	t["127"+v4].pointer = "1.0.0.127" + v4
	t["1"+zeros+v6].pointer = "1" + zeros + v6
	return t
}

// tops are the last labels of the table, to let most names go by at once.
var tops = map[string]bool{"localhost.": true, "invalid.": true, "test.": true, "local.": true, "onion.": true, "arpa.": true}

// find returns the longest special zone of a lower-cased name, or nil.
func find(name string) *special {
	labels := dns.Split(name)
	if len(labels) == 0 || !tops[name[labels[len(labels)-1]:]] {
		return nil
	}
	for _, at := range labels {
		if z := table[name[at:]]; z != nil {
			return z
		}
	}
	return nil
}

// The SOA and TTL of a locally served zone (RFC 6303, section 3).
const ttl = 10800

func (z *special) soa(owner string) *dns.SOA {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
		Ns:  z.origin, Mbox: "nobody.invalid.",
		Serial: 1, Refresh: 3600, Retry: 1200, Expire: 604800, Minttl: ttl,
	}
}

// records returns what the lower-cased name has, under the owner name that the client
// wrote, and whether the name exists.
func (z *special) records(name, owner string) (all []dns.RR, exists bool) {
	header := func(t uint16) dns.RR_Header {
		return dns.RR_Header{Name: owner, Rrtype: t, Class: dns.ClassINET, Ttl: ttl}
	}
	if name == z.origin {
		exists = true
		all = append(all, z.soa(owner), &dns.NS{Hdr: header(dns.TypeNS), Ns: z.origin})
	}
	if z.loopback {
		return append(all, &dns.A{Hdr: header(dns.TypeA), A: []byte{127, 0, 0, 1}},
			&dns.AAAA{Hdr: header(dns.TypeAAAA), AAAA: append(make([]byte, 15), 1)}), true
	}
	if z.pointer != "" && name == z.pointer {
		return append(all, &dns.PTR{Hdr: header(dns.TypePTR), Ptr: "localhost."}), true
	}
	return all, exists || z.nodata || z.pointer != "" && dns.IsSubDomain(name, z.pointer)
}
