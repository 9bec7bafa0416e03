package registry

import (
	"context"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"
	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/names/scene"
)

const basic = `
node n1 10.0.0.1 meta.rack=r7
node n2 10.0.0.2
instance n1/web1 web 10.0.1.1:8080
instance n2/web2 web :8081
instance n2/ext ext www.example.com:443
instance n2/one one :1
`

// handler makes the Handler of a Corefile block over these lines of a registry.
func handler(t testing.TB, corefile, lines string) *Handler {
	t.Helper()
	h, err := parse(caddy.NewTestController("dns", corefile))
	if err != nil {
		t.Fatal(err)
	}
	if lines != "" {
		h.view = scene.New(lines)
		h.view.Heard(time.Now())
	}
	h.Next = test.NextHandler(dns.RcodeRefused, nil)
	return h
}

// exchange asks h as a client at 10.240.0.1 does, over UDP.
func exchange(t testing.TB, h *Handler, q *dns.Msg) (*dns.Msg, int) {
	t.Helper()
	return exchangeVia(t, context.Background(), h, q, &test.ResponseWriter{})
}

func exchangeVia(t testing.TB, ctx context.Context, h *Handler, q *dns.Msg, w dns.ResponseWriter) (*dns.Msg, int) {
	t.Helper()
	rec := dnstest.NewRecorder(w)
	rcode, err := h.ServeDNS(ctx, rec, q)
	if err != nil {
		t.Fatal(err)
	}
	return rec.Msg, rcode
}

func ask(name, qtype string) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, dns.StringToType[qtype])
	return m
}

func TestServe(t *testing.T) {
	h := handler(t, "registry", basic)
	m, _ := exchange(t, h, ask("WEB.service.internal.", "SRV"))
	if m == nil || len(m.Answer) != 2 || len(m.Extra) != 2 || !m.Authoritative || m.Answer[0].Header().Name != "WEB.service.internal." {
		t.Fatalf("got %v", m)
	}
	if m, rcode := exchange(t, h, ask("metadata.google.internal.", "A")); m != nil || rcode != dns.RcodeRefused {
		t.Fatalf("a name that is not ours was answered: %v", m)
	}
	h.view = registry.NewView()
	q := ask("web.service.internal.", "A")
	q.SetEdns0(1232, false)
	m, _ = exchange(t, h, q)
	if m.Rcode != dns.RcodeServerFailure || m.IsEdns0().Option[0].(*dns.EDNS0_EDE).InfoCode != dns.ExtendedErrorCodeNotReady {
		t.Fatalf("got %v", m)
	}
}
