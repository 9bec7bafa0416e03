package fastpath

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

var expanded = map[string][]string{
	"addresses": {"www.example.com. 60 IN A 192.0.2.1", "www.example.com. 60 IN AAAA 2001:db8::1"},
	"aliases":   {"www.example.com. 60 IN CNAME a.b.example.com.", "a.b.example.com. 60 IN CNAME cdn.other.net.", "cdn.other.net. 60 IN A 192.0.2.1"},
	"services":  {"www.example.com. 60 IN SRV 1 2 3 t.example.com.", "www.example.com. 60 IN MX 10 mail.example.com."},
	"zone":      {"example.com. 60 IN SOA ns.example.com. host.example.com. 1 2 3 4 5", "com. 60 IN NS www.example.com."},
	"text":      {`www.example.com. 60 IN TXT "one" "two"`, "4.3.2.1.in-addr.arpa. 60 IN PTR www.example.com."},
	"root":      {". 60 IN NS .", "www.example.com. 60 IN CNAME ."},
	"nothing":   nil,
}

func response(t *testing.T, qname string, rrs []string) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetQuestion(qname, dns.TypeA)
	m.Response = true
	for _, s := range rrs {
		rr, err := dns.NewRR(s)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	return m
}

// TestExpandIsHowTheServerWrites compares with the library's packer without compression.
func TestExpandIsHowTheServerWrites(t *testing.T) {
	for name, rrs := range expanded {
		for _, compress := range []bool{true, false} {
			m := response(t, "www.example.com.", rrs)
			m.Compress = compress
			p, err := m.Pack()
			if err != nil {
				t.Fatal(err)
			}
			m.Compress = false
			want, err := m.Pack()
			if err != nil {
				t.Fatal(err)
			}
			var x expander
			got, ok := x.append(nil, p, len(want))
			if !ok || !bytes.Equal(got, want) {
				t.Errorf("%s, compressed %t: %t\n%x\n%x", name, compress, ok, got, want)
			}
			if got, ok := new(expander).append(nil, p, len(want)-1); ok && len(rrs) > 0 {
				t.Errorf("%s: %d octets where %d fit", name, len(got), len(want)-1)
			}
		}
	}
}

// TestFoldFollowsTheSpelling: a copy with another spelling of QNAME reads as the library's
// compressed packet does with it.
func TestFoldFollowsTheSpelling(t *testing.T) {
	for name, rrs := range expanded {
		m := response(t, "www.example.com.", rrs)
		plain, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		m.Compress = true
		packed, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		folded := appendFolded(nil, plain)
		read := func(p []byte, spell bool) string {
			p = bytes.Clone(p)
			if spell {
				copy(p[headerLen:], "\x03WwW\x07eXample\x03cOm\x00")
			}
			var m dns.Msg
			if err := m.Unpack(p); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			return m.String()
		}
		if d := cmp.Diff(read(packed, false), read(folded, false)); d != "" {
			t.Errorf("%s: library (-), folded (+):\n%s", name, d)
		}
		if d := cmp.Diff(read(packed, true), read(folded, true)); d != "" && name != "services" {
			t.Errorf("%s, spelt otherwise: library (-), folded (+):\n%s", name, d)
		}
	}
}

// TestExpandNotices names that are written out, for they may have to be folded.
func TestExpandNotices(t *testing.T) {
	for _, c := range []struct {
		rr       string
		compress bool
		want     bool
	}{
		{"www.example.com. 60 IN A 192.0.2.1", true, false},
		{"www.example.com. 60 IN A 192.0.2.1", false, true},
		{"www.example.com. 60 IN CNAME cdn.other.net.", true, true},
		{". 60 IN NS .", true, false},
	} {
		m := response(t, "www.example.com.", []string{c.rr})
		m.Compress = c.compress
		p, _ := m.Pack()
		var x expander
		if _, ok := x.append(nil, p, 512); !ok || x.literal != c.want {
			t.Errorf("%s, compressed %t: %t, literal %t", c.rr, c.compress, ok, x.literal)
		}
	}
}

func TestExpandRefuses(t *testing.T) {
	for _, rr := range []string{
		"www.example.com. 60 IN DNAME other.net.", // its data may hold a compressed name
		"www.example.com. 60 IN HTTPS 1 . alpn=h2",
		"www.example.com. 60 IN RRSIG A 8 3 60 20300101000000 20200101000000 1 example.com. AAAA",
		`www.example.com. 60 IN NAPTR 1 2 "" "" "" t.example.com.`,
	} {
		p, err := response(t, "www.example.com.", []string{rr}).Pack()
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := new(expander).append(nil, p, 4096); ok {
			t.Errorf("%s is expanded", strings.Fields(rr)[3])
		}
	}
}
