package specialuse

import (
	"context"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestAnswers(t *testing.T) {
	zeros := strings.Repeat("0.", 31)
	tests := []struct {
		name, qtype string
		want        string // RCODE and ANSWER, or "next"
		soa         string
	}{
		{"localhost.", "A", "NOERROR 127.0.0.1", ""},
		{"LocalHost.", "AAAA", "NOERROR ::1", ""},
		{"a.b.localhost.", "A", "NOERROR 127.0.0.1", ""},
		{"localhost.", "MX", "NOERROR", "localhost."},
		{"localhost.", "NS", "NOERROR localhost.", ""},
		{"x.invalid.", "A", "NXDOMAIN", "invalid."},
		{"invalid.", "A", "NOERROR", "invalid."},
		{"invalid.", "DS", "next", ""},
		{"x.invalid.", "DS", "NXDOMAIN", "invalid."},
		{"www.test.", "A", "NXDOMAIN", "test."},
		{"printer.local.", "A", "NXDOMAIN", "local."},
		{"abc.onion.", "AAAA", "NXDOMAIN", "onion."},
		{"nas.home.arpa.", "A", "NXDOMAIN", "home.arpa."},
		{"_dns.resolver.arpa.", "SVCB", "NOERROR", "resolver.arpa."},
		{"4.3.2.10.in-addr.arpa.", "PTR", "NXDOMAIN", "10.in-addr.arpa."},
		{"10.in-addr.arpa.", "SOA", "NOERROR 10.in-addr.arpa. nobody.invalid. 1 3600 1200 604800 10800", ""},
		{"1.1.16.172.in-addr.arpa.", "PTR", "NXDOMAIN", "16.172.in-addr.arpa."},
		{"1.1.31.172.in-addr.arpa.", "PTR", "NXDOMAIN", "31.172.in-addr.arpa."},
		{"1.1.32.172.in-addr.arpa.", "PTR", "next", ""},
		{"172.in-addr.arpa.", "SOA", "next", ""},
		{"1.1.100.100.in-addr.arpa.", "PTR", "NXDOMAIN", "100.100.in-addr.arpa."},
		{"1.1.128.100.in-addr.arpa.", "PTR", "next", ""},
		{"1.0.0.127.in-addr.arpa.", "PTR", "NOERROR localhost.", ""},
		{"0.127.in-addr.arpa.", "PTR", "NOERROR", "127.in-addr.arpa."},
		{"2.0.0.127.in-addr.arpa.", "PTR", "NXDOMAIN", "127.in-addr.arpa."},
		{"1." + zeros + "ip6.arpa.", "PTR", "NOERROR localhost.", ""},
		{"a." + "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.", "PTR", "NXDOMAIN", "d.f.ip6.arpa."},
		{"b.e.f.ip6.arpa.", "A", "NOERROR", "b.e.f.ip6.arpa."},
		{"8.8.8.8.in-addr.arpa.", "PTR", "next", ""},
		{"example.com.", "A", "next", ""},
		{"notlocalhost.", "A", "next", ""},
		{"localhost.example.com.", "A", "next", ""},
		{".", "NS", "next", ""},
	}
	h := &Handler{Next: test.NextHandler(dns.RcodeRefused, nil)}
	for _, tt := range tests {
		t.Run(tt.name+" "+tt.qtype, func(t *testing.T) {
			if got, soa := ask(t, h, tt.name, tt.qtype); got != tt.want || soa != tt.soa {
				t.Errorf("got %q with SOA of %q, want %q, %q", got, soa, tt.want, tt.soa)
			}
		})
	}
}

func ask(t *testing.T, h *Handler, name, qtype string) (got, soa string) {
	t.Helper()
	q := new(dns.Msg)
	q.SetQuestion(name, dns.StringToType[qtype])
	q.SetEdns0(1232, false)
	rec := dnstest.NewRecorder(&test.ResponseWriter{})
	rcode, err := h.ServeDNS(context.Background(), rec, q)
	if err != nil {
		t.Fatal(err)
	}
	m := rec.Msg
	if m == nil {
		if rcode != dns.RcodeRefused {
			t.Fatalf("nothing written, RCODE %d", rcode)
		}
		return "next", ""
	}
	if _, err := m.Pack(); err != nil {
		t.Fatal(err)
	}
	got = dns.RcodeToString[m.Rcode]
	for _, rr := range m.Answer {
		if rr.Header().Name != name {
			t.Errorf("owner %q, asked for %q", rr.Header().Name, name)
		}
		got += " " + strings.TrimPrefix(rr.String(), rr.Header().String())
	}
	if len(m.Ns) == 1 {
		soa = m.Ns[0].Header().Name
		if len(m.IsEdns0().Option) != 1 {
			t.Error("a negative answer does not say why")
		}
	}
	return got, soa
}

func TestTopsCoverTheTable(t *testing.T) {
	for origin := range table {
		if find("x."+origin) == nil {
			t.Errorf("%s is in the table and not found", origin)
		}
	}
	if len(table) != 7+9+16+64+8 {
		t.Errorf("the table has %d zones", len(table))
	}
}

// router forwards one zone; passer only has a successor.
type router struct {
	Next plugin.Handler
	zone string
}

func (r router) Routes() []string { return []string{r.zone} }
func (router) Name() string       { return "router" }
func (r router) ServeDNS(ctx context.Context, w dns.ResponseWriter, m *dns.Msg) (int, error) {
	return r.Next.ServeDNS(ctx, w, m)
}

type passer struct{ Next plugin.Handler }

func (*passer) Name() string { return "passer" }
func (p *passer) ServeDNS(ctx context.Context, w dns.ResponseWriter, m *dns.Msg) (int, error) {
	return p.Next.ServeDNS(ctx, w, m)
}

func TestRoutes(t *testing.T) {
	end := test.NextHandler(dns.RcodeRefused, nil)
	chain := &passer{&router{&passer{router{&router{end, "."}, "corp.LOCAL."}}, "10.in-addr.arpa."}}
	h := &Handler{Next: chain}
	h.route(routesBelow(chain))
	for name, want := range map[string]string{"x.corp.local.": "next", "x.local.": "NXDOMAIN", "1.1.1.10.in-addr.arpa.": "next"} {
		if got, _ := ask(t, h, name, "A"); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	for _, end := range []plugin.Handler{nil, &passer{}, end} {
		if got := routesBelow(end); got != nil {
			t.Errorf("got %v", got)
		}
	}
}

func TestExceptions(t *testing.T) {
	tests := []struct{ corefile, name, want string }{
		{"specialuse", "x.corp.local.", "NXDOMAIN"},
		{"specialuse except corp.local", "x.corp.local.", "next"},
		{"specialuse except corp.local", "x.other.local.", "NXDOMAIN"},
		{"specialuse except test 10.0.0.0/8", "1.2.3.10.in-addr.arpa.", "next"},
		{"specialuse {\n except test\n except local\n}", "a.test.", "next"},
		{"specialuse {\n except test\n except local\n}", "a.local.", "next"},
	}
	for _, tt := range tests {
		h, err := parse(caddy.NewTestController("dns", tt.corefile))
		if err != nil {
			t.Fatal(err)
		}
		h.Next = test.NextHandler(dns.RcodeRefused, nil)
		if got, _ := ask(t, h, tt.name, "A"); got != tt.want {
			t.Errorf("%s: %s: got %s, want %s", tt.corefile, tt.name, got, tt.want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, corefile := range []string{"specialuse local", "specialuse except", "specialuse {\n without a\n}", "specialuse\nspecialuse"} {
		if _, err := parse(caddy.NewTestController("dns", corefile)); err == nil {
			t.Errorf("%q was accepted", corefile)
		}
	}
}

func TestMetricsLint(t *testing.T) {
	queries.WithLabelValues("local.", "nxdomain").Inc()
	problems, err := testutil.CollectAndLint(queries)
	if err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
}

// TestOtherClass: a name that is answered here is not passed on for its class, nor is an
// answer of class IN given to it.
func TestOtherClass(t *testing.T) {
	h := &Handler{Next: test.NextHandler(dns.RcodeBadAlg, nil)}
	for class, want := range map[uint16]int{
		dns.ClassINET: dns.RcodeSuccess, dns.ClassANY: dns.RcodeSuccess,
		dns.ClassCHAOS: dns.RcodeRefused, dns.ClassHESIOD: dns.RcodeRefused, 65280: dns.RcodeRefused,
	} {
		for name, next := range map[string]bool{"localhost.": false, "1.0.0.127.in-addr.arpa.": false, "version.bind.": true} {
			q := new(dns.Msg).SetQuestion(name, dns.TypeTXT)
			q.Question[0].Qclass = class
			rec := dnstest.NewRecorder(&test.ResponseWriter{})
			rcode, err := h.ServeDNS(context.Background(), rec, q)
			if next {
				want := dns.RcodeBadAlg
				if rcode != want || err != nil {
					t.Errorf("%s class %d: %d %v, want %d", name, class, rcode, err, want)
				}
				continue
			}
			if rcode != want || err != nil || (rec.Msg == nil) != (want == dns.RcodeRefused) {
				t.Errorf("%s class %d: %d %v, want %d", name, class, rcode, err, want)
			}
		}
	}
}
