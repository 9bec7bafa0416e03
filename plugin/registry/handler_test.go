package registry

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
	"github.com/resolverd/resolverd/internal/answer"
	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/names/scene"
)

const basic = `
node n1 10.0.0.1 meta.rack=r7
node n2 10.0.0.2
instance n1/web1 web 10.0.1.1:8080
instance n2/web2 web :8081
instance n2/one one :1
instance n1/sick sick :2
check n1/c sick critical
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

// exchange asks h as a client at 10.240.0.1 does, over UDP. The message is as the
// server's own writer would send it.
func exchange(t testing.TB, h *Handler, q *dns.Msg) (*dns.Msg, int) {
	t.Helper()
	return exchangeVia(context.Background(), t, h, q, &test.ResponseWriter{})
}

func exchangeVia(ctx context.Context, t testing.TB, h *Handler, q *dns.Msg, w dns.ResponseWriter) (*dns.Msg, int) {
	t.Helper()
	rec := dnstest.NewRecorder(w)
	rcode, err := h.ServeDNS(ctx, request.NewScrubWriter(q, rec), q)
	if err != nil {
		t.Fatal(err)
	}
	if rec.Msg == nil {
		return nil, rcode
	}
	wire, err := rec.Msg.Pack()
	if err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(wire); err != nil {
		t.Fatal(err)
	}
	return m, rcode
}

func ask(name, qtype string, size ...uint16) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, dns.StringToType[qtype])
	if len(size) > 0 {
		m.SetEdns0(size[0], false)
	}
	return m
}

func ede(m *dns.Msg) []uint16 {
	var codes []uint16
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				codes = append(codes, e.InfoCode)
			}
		}
	}
	return codes
}

func TestServe(t *testing.T) {
	tests := []struct {
		corefile, name, qtype string
		want                  string // RCODE and number of answers, or "next"
	}{
		{"registry", "WEB.service.internal.", "SRV", "NOERROR 2"},
		{"registry", "web.service.internal.", "A", "NOERROR 2"},
		{"registry", "gone.service.internal.", "A", "NXDOMAIN 0"},
		{"registry", "sick.service.internal.", "A", "NXDOMAIN 0"},
		{"registry {\n all_critical last_good\n}", "sick.service.internal.", "A", "NOERROR 1"},
		{"registry", "metadata.google.internal.", "A", "next"},
		{"registry {\n exclusive\n}", "metadata.google.internal.", "A", "NXDOMAIN 0"},
		{"registry", "web.internal.", "A", "next"},
		{"registry {\n short\n}", "web.internal.", "A", "NOERROR 2"},
		{"registry {\n short\n}", "nothere.internal.", "A", "next"},
		{"registry {\n fallthrough\n}", "gone.service.internal.", "A", "next"},
		{"registry {\n fallthrough gone.service.internal\n}", "gone.service.internal.", "A", "next"},
		{"registry {\n fallthrough other.org\n}", "gone.service.internal.", "A", "NXDOMAIN 0"},
		{"registry {\n fallthrough\n}", "one.service.internal.", "AAAA", "NOERROR 0"},
		{"registry", "web.service.consul.", "A", "next"},
		{"registry internal consul", "web.service.consul.", "A", "NOERROR 2"},
		{"registry consul", "anything.consul.", "A", "NXDOMAIN 0"},
		{"registry a.internal internal", "web.service.a.internal.", "A", "NOERROR 2"},
		{"registry", "1.0.0.10.in-addr.arpa.", "PTR", "NOERROR 1"},
		{"registry", "9.0.0.10.in-addr.arpa.", "PTR", "next"},
		{"registry {\n exclusive\n}", "9.0.0.10.in-addr.arpa.", "PTR", "next"},
		{"registry", "www.example.com.", "A", "next"},
		{"registry", "internal.", "AXFR", "REFUSED"},
		{"registry consul", "consul.", "AXFR", "NOTIMP"},
	}
	for _, tt := range tests {
		t.Run(tt.corefile+" "+tt.name+" "+tt.qtype, func(t *testing.T) {
			h := handler(t, tt.corefile, basic)
			h.Next = test.HandlerFunc(func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) { return dns.RcodeBadAlg, nil })
			m, rcode := exchange(t, h, ask(tt.name, tt.qtype))
			got := "next"
			switch {
			case m != nil:
				got = fmt.Sprint(dns.RcodeToString[m.Rcode], " ", len(m.Answer))
				if !m.Authoritative || m.Question[0].Name != tt.name {
					t.Errorf("header: %v", m)
				}
				if len(m.Answer) == 0 && (len(m.Ns) != 1 || m.Ns[0].Header().Rrtype != dns.TypeSOA) {
					t.Errorf("no SOA: %v", m)
				}
			case rcode != dns.RcodeBadAlg:
				got = dns.RcodeToString[rcode]
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// TestOtherClass: the registry's names reach no upstream by way of another class.
func TestOtherClass(t *testing.T) {
	h := handler(t, "registry", basic)
	h.Next = test.HandlerFunc(func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) { return dns.RcodeBadAlg, nil })
	for name, want := range map[string]int{
		"web.service.internal.":     dns.RcodeRefused,
		"gone.service.internal.":    dns.RcodeRefused,
		"metadata.google.internal.": dns.RcodeBadAlg,
		"1.0.0.10.in-addr.arpa.":    dns.RcodeBadAlg,
		"version.bind.":             dns.RcodeBadAlg,
	} {
		q := ask(name, "TXT")
		q.Question[0].Qclass = dns.ClassCHAOS
		if m, rcode := exchange(t, h, q); m != nil || rcode != want {
			t.Errorf("%s: %v %d, want %d", name, m, rcode, want)
		}
	}
}

func TestNotLoaded(t *testing.T) {
	h := handler(t, "registry", "")
	if h.Ready() {
		t.Error("ready without a view")
	}
	m, _ := exchange(t, h, ask("web.service.internal.", "A", 1232))
	if codes := ede(m); m.Rcode != dns.RcodeServerFailure || len(codes) != 1 || codes[0] != dns.ExtendedErrorCodeNotReady {
		t.Errorf("got %v", m)
	}
	for _, name := range []string{"www.example.com.", "metadata.internal.", "1.0.0.10.in-addr.arpa."} {
		if m, _ := exchange(t, h, ask(name, "PTR")); m != nil {
			t.Errorf("%s: got %v", name, m)
		}
	}
	h = handler(t, "registry", basic)
	if !h.Ready() {
		t.Error("not ready with a view")
	}
}

// TestOutOfTouch: the view goes on answering, and says how old it is.
func TestOutOfTouch(t *testing.T) {
	h := handler(t, "registry", basic)
	start := time.Now()
	tests := []struct {
		heard time.Duration // before now; negative for never
		name  string
		want  []uint16
	}{
		{0, "one.service.internal.", nil},
		{30 * time.Second, "one.service.internal.", nil},
		{31 * time.Second, "one.service.internal.", []uint16{dns.ExtendedErrorCodeStaleAnswer}},
		{31 * time.Second, "gone.service.internal.", []uint16{dns.ExtendedErrorCodeStaleNXDOMAINAnswer}},
		{31 * time.Second, "1.0.0.10.in-addr.arpa.", []uint16{dns.ExtendedErrorCodeStaleAnswer}},
		{-1, "one.service.internal.", []uint16{dns.ExtendedErrorCodeStaleAnswer}},
	}
	for _, tt := range tests {
		if h.now = time.Now; tt.heard < 0 {
			h.view = scene.New(basic)
		} else {
			h.view.Heard(start)
			h.now = func() time.Time { return start.Add(tt.heard) }
		}
		qtype := "A"
		if strings.HasSuffix(tt.name, "arpa.") {
			qtype = "PTR"
		}
		var v answer.Verdict
		m, _ := exchangeVia(answer.WithVerdict(context.Background(), &v), t, h, ask(tt.name, qtype, 1232), &test.ResponseWriter{})
		if fmt.Sprint(ede(m)) != fmt.Sprint(tt.want) {
			t.Errorf("%s heard %s ago: EDE %v, want %v", tt.name, tt.heard, ede(m), tt.want)
		}
		if _, shared := v.Shareable(); shared != (tt.want == nil) {
			t.Errorf("%s heard %s ago: shared %v", tt.name, tt.heard, shared)
		}
		if m, _ := exchange(t, h, ask(tt.name, qtype)); m.IsEdns0() != nil {
			t.Errorf("an OPT in the response to a query without one")
		}
	}
}

// TestShare: what may be repeated, and under which epoch.
func TestShare(t *testing.T) {
	h := handler(t, "registry", basic+"role primary one n2/one\ninstance n1/ext ext www.example.com:1")
	h.chase = lookups{}
	service := h.view.Load().Service("one").Epoch
	tests := []struct {
		name, qtype string
		epoch       *registry.Epoch // nil: not shared
	}{
		{"one.service.internal.", "A", service},
		{"one.service.internal.", "SRV", service},
		{"one.service.internal.", "AAAA", service},
		{"no.one.service.internal.", "A", service},
		{"nope.one.instance.internal.", "A", service},
		{"web.service.internal.", "SRV", h.view.Load().Service("web").Epoch},
		{"web.service.internal.", "A", nil}, // random order
		{"gone.service.internal.", "A", &h.view.Names},
		{"service.internal.", "A", &h.view.Names},
		{"n1.node.internal.", "TXT", h.view.Load().Node("n1").Epoch},
		{"n9.node.internal.", "A", &h.view.Names},
		{"internal.", "SOA", nil},
		{"ns.internal.", "A", nil},
		{"primary.role.internal.", "A", nil},
		{"ext.service.internal.", "A", nil},
		{"1.0.0.10.in-addr.arpa.", "PTR", &h.view.Addrs},
		{"www.example.com.", "A", nil},
	}
	for _, tt := range tests {
		var v answer.Verdict
		exchangeVia(answer.WithVerdict(context.Background(), &v), t, h, ask(tt.name, tt.qtype), &test.ResponseWriter{})
		s, ok := v.Shareable()
		if ok != (tt.epoch != nil) || s.Epoch != tt.epoch {
			t.Errorf("%s %s: shared %v under %p, want %p", tt.name, tt.qtype, ok, s.Epoch, tt.epoch)
			continue
		}
		if ok && (s.Seen != s.Epoch.Load() || s.Aging || s.Until.Before(time.Now()) || s.Until.After(time.Now().Add(shareFor))) {
			t.Errorf("%s %s: %+v", tt.name, tt.qtype, s)
		}
	}
}

// TestShareSeesChange: a change after the epoch was read makes what was shared void.
func TestShareSeesChange(t *testing.T) {
	h := handler(t, "registry", basic)
	var v answer.Verdict
	exchangeVia(answer.WithVerdict(context.Background(), &v), t, h, ask("one.service.internal.", "A"), &test.ResponseWriter{})
	s, _ := v.Shareable()
	if err := scene.Apply(h.view, "instance n2/one one :2"); err != nil {
		t.Fatal(err)
	}
	if s.Epoch.Load() == s.Seen {
		t.Error("the epoch stands still after a change")
	}
}

// lookups answers for names outside; a name that is missing fails.
type lookups map[string]string

func (l lookups) Lookup(_ context.Context, _ request.Request, name string, typ uint16) (*dns.Msg, error) {
	text, ok := l[name]
	if !ok {
		return nil, errors.New("no route")
	}
	m := new(dns.Msg)
	m.SetQuestion(name, typ)
	if text == "SERVFAIL" {
		m.Rcode = dns.RcodeServerFailure
		return m, nil
	}
	for line := range strings.SplitSeq(text, "\n") {
		rr := must(dns.NewRR(line))
		if rr.Header().Rrtype == dns.TypeSOA {
			m.Ns, m.Rcode = append(m.Ns, rr), dns.RcodeNameError
			continue
		}
		m.Answer = append(m.Answer, rr)
	}
	return m, nil
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestExternal(t *testing.T) {
	h := handler(t, "registry", `
node n1 10.0.0.1
instance n1/a ext www.example.com:1
instance n1/b nx nx.example.com:1
instance n1/c broken broken.example.com:1
instance n1/d away away.example.com:1
`)
	h.chase = lookups{
		"www.example.com.":    "www.example.com. 60 IN CNAME edge.example.net.\nedge.example.net. 60 IN A 192.0.2.7\nedge.example.net. 60 IN TXT x",
		"nx.example.com.":     "example.com. 60 IN SOA a. b. 1 2 3 4 5",
		"broken.example.com.": "SERVFAIL",
	}
	m, _ := exchange(t, h, ask("EXT.service.internal.", "A"))
	if got := rrs(m.Answer); got != "EXT.service.internal. CNAME www.example.com.|www.example.com. CNAME edge.example.net.|edge.example.net. A 192.0.2.7" {
		t.Errorf("got %s", got)
	}
	m, _ = exchange(t, h, ask("ext.service.internal.", "CNAME"))
	if len(m.Answer) != 1 || m.Rcode != dns.RcodeSuccess {
		t.Errorf("got %v", m)
	}
	m, _ = exchange(t, h, ask("nx.service.internal.", "A"))
	if m.Rcode != dns.RcodeNameError || len(m.Answer) != 1 || len(m.Ns) != 1 {
		t.Errorf("got %v", m)
	}
	for _, name := range []string{"broken.service.internal.", "away.service.internal."} {
		m, _ = exchange(t, h, ask(name, "A", 1232))
		if codes := ede(m); m.Rcode != dns.RcodeServerFailure || len(m.Answer) != 0 || len(codes) != 1 || codes[0] != dns.ExtendedErrorCodeNoReachableAuthority {
			t.Errorf("%s: got %v", name, m)
		}
	}
}

func rrs(list []dns.RR) string {
	var out []string
	for _, rr := range list {
		h := rr.Header()
		out = append(out, h.Name+" "+dns.TypeToString[h.Rrtype]+" "+strings.TrimPrefix(rr.String(), h.String()))
	}
	return strings.Join(out, "|")
}

// itself looks names up in the handler, as the server does for a name of the registry.
type itself struct{ h *Handler }

func (i itself) Lookup(ctx context.Context, state request.Request, name string, typ uint16) (*dns.Msg, error) {
	if answer.FromContext(ctx) != nil {
		return nil, errors.New("the verdict of the first query is passed on")
	}
	rec := dnstest.NewRecorder(&test.ResponseWriter{})
	q := state.NewWithQuestion(name, typ)
	_, err := i.h.ServeDNS(ctx, rec, q.Req)
	return rec.Msg, err
}

func TestExternalWithinTheRegistry(t *testing.T) {
	h := handler(t, "registry", `
node n1 10.0.0.1
instance n1/a one two.service.internal:1
instance n1/b two three.service.internal:1
instance n1/c three :1
instance n1/l loop loop.service.internal:1
`)
	h.chase = itself{h}
	ctx := answer.WithVerdict(context.Background(), new(answer.Verdict))
	m, _ := exchangeVia(ctx, t, h, ask("one.service.internal.", "A"), &test.ResponseWriter{})
	if len(m.Answer) != 3 || m.Rcode != dns.RcodeSuccess {
		t.Errorf("got %v", m)
	}
	if err := scene.Apply(h.view, "instance n1/c three four.service.internal:1\ninstance n1/d four :1"); err != nil {
		t.Fatal(err)
	}
	if m, _ = exchange(t, h, ask("one.service.internal.", "A")); len(m.Answer) != 4 {
		t.Errorf("three CNAMEs gave %v", m)
	}
	if err := scene.Apply(h.view, "instance n1/d four five.service.internal:1\ninstance n1/e five :1"); err != nil {
		t.Fatal(err)
	}
	if m, _ = exchange(t, h, ask("one.service.internal.", "A")); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("four CNAMEs gave %v", m)
	}
	m, _ = exchange(t, h, ask("loop.service.internal.", "A"))
	if m.Rcode != dns.RcodeServerFailure {
		t.Errorf("a loop gave %v", m)
	}
}

// TestSizes: what is sent, after the server's own cut, by client and announcement.
func TestSizes(t *testing.T) {
	var b strings.Builder
	b.WriteString("node n1 10.0.0.1\n")
	for i := range 60 {
		fmt.Fprintf(&b, "instance n1/w%02d web 10.1.0.%d:80\n", i, i+1)
	}
	h := handler(t, "registry", b.String())
	tests := []struct {
		client   string
		tcp      bool
		announce uint16
		most     int
		tc       bool
	}{
		{"10.240.0.1", false, 0, 512, true},
		{"10.240.0.1", false, 700, 700, true},
		{"10.240.0.1", false, 1232, 1232, true},
		{"10.240.0.1", false, 4096, 1232, true},
		{"127.0.0.1", false, 0, 512, true},
		{"127.0.0.1", false, 8192, 8192, false},
		{"127.0.0.1", false, 65535, 65507, false},
		{"10.240.0.1", true, 0, 65535, false},
		{"10.240.0.1", true, 1232, 65535, false},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%+v", tt), func(t *testing.T) {
			q := ask("web.service.internal.", "SRV")
			if tt.announce > 0 {
				q.SetEdns0(tt.announce, true)
			}
			q.Id = 7
			rec := dnstest.NewRecorder(&test.ResponseWriter{TCP: tt.tcp, RemoteIP: tt.client})
			if _, err := h.ServeDNS(context.Background(), request.NewScrubWriter(q, rec), q); err != nil {
				t.Fatal(err)
			}
			wire, err := rec.Msg.Pack()
			if err != nil {
				t.Fatal(err)
			}
			m := new(dns.Msg)
			if err := m.Unpack(wire); err != nil {
				t.Fatal(err)
			}
			if len(wire) > tt.most || m.Truncated != tt.tc || !tt.tc && len(m.Extra) < 60 || len(m.Answer) == 0 || tt.tc == (len(m.Answer) == 60) {
				t.Errorf("%d octets, tc %v, %d answers, %d additional", len(wire), m.Truncated, len(m.Answer), len(m.Extra))
			}
			opt := m.IsEdns0()
			if (opt != nil) != (tt.announce > 0) {
				t.Fatalf("OPT %v", opt)
			}
			if opt != nil && (m.Extra[len(m.Extra)-1] != dns.RR(opt) || !opt.Do()) {
				t.Errorf("OPT %v is not last or lost DO", opt)
			}
		})
	}
}

// TestUncompressedWouldFit: a response that fits off loopback only when compressed stays
// compressed, although the client announced more.
func TestUncompressedWouldFit(t *testing.T) {
	var b strings.Builder
	b.WriteString("node n1 10.0.0.1\n")
	for i := range 5 {
		fmt.Fprintf(&b, "instance n1/w%02d a-service-with-a-rather-long-name 10.1.0.%d:80\n", i, i+1)
	}
	h := handler(t, "registry a.long.zone.example.org", b.String())
	q := ask("a-service-with-a-rather-long-name.service.a.long.zone.example.org.", "SRV", 4096)
	rec := dnstest.NewRecorder(&test.ResponseWriter{})
	if _, err := h.ServeDNS(context.Background(), request.NewScrubWriter(q, rec), q); err != nil {
		t.Fatal(err)
	}
	wire, err := rec.Msg.Pack()
	if err != nil {
		t.Fatal(err)
	}
	rec.Msg.Compress = false
	// Above 1480 the server's cut would compress by itself.
	if plain, _ := rec.Msg.Pack(); len(wire) > 1232 || len(plain) <= 1232 || len(plain) > 1480 {
		t.Errorf("%d octets, %d uncompressed", len(wire), len(plain))
	}
}

func TestTransfer(t *testing.T) {
	h := handler(t, "registry", basic)
	h.glue = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	read := func(zone string, serial uint32) (out []dns.RR) {
		ch, err := h.Transfer(zone, serial)
		if err != nil {
			return nil
		}
		for rrs := range ch {
			out = append(out, rrs...)
		}
		return out
	}
	all := read("internal.", 0)
	if len(all) < 10 || all[0].Header().Rrtype != dns.TypeSOA || all[len(all)-1].Header().Rrtype != dns.TypeSOA {
		t.Errorf("got %s", rrs(all))
	}
	serial := all[0].(*dns.SOA).Serial
	for s, want := range map[uint32]int{serial: 1, serial + 1: 1, serial - 1: len(all), serial + 1<<31 + 1: len(all)} {
		if s == 0 {
			continue
		}
		if got := read("internal.", s); len(got) != want {
			t.Errorf("from serial %d at %d: %d RRs, want %d", s, serial, len(got), want)
		}
	}
	if read("other.", 0) != nil || read("service.internal.", 0) != nil {
		t.Error("a zone that is not ours was transferred")
	}
	h.view = registry.NewView()
	if read("internal.", 0) != nil {
		t.Error("a zone was transferred before the view was loaded")
	}
}

func TestMetadata(t *testing.T) {
	h := handler(t, "registry", basic)
	w := &test.ResponseWriter{}
	for name, want := range map[string]string{
		"Prod.WEB.service.internal.": "internal. service web 1",
		"n1.node.internal.":          "internal. node  1",
		"www.example.com.":           "",
	} {
		ctx := metadata.ContextWithMetadata(context.Background())
		q := ask(name, "A")
		ctx = h.Metadata(ctx, request.Request{W: w, Req: q})
		var got []string
		for _, label := range []string{"zone", "kind", "service", "revision"} {
			if f := metadata.ValueFunc(ctx, "registry/"+label); f != nil {
				got = append(got, f())
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// TestRace: queries while the registry changes; run with -race it finds unsafe sharing.
func TestRace(t *testing.T) {
	h := handler(t, "registry {\n short\n}", basic)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := scene.Apply(h.view, fmt.Sprintf("instance n1/web1 web 10.0.1.1:%d\nnode x%d.y 10.0.0.9\ndelete node x%d.y", 1+i%100, i, i-1)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for range 300 {
		for _, name := range []string{"web.service.internal.", "web.internal.", "q.y.node.internal.", "1.1.0.10.in-addr.arpa."} {
			exchange(t, h, ask(name, "SRV"))
		}
	}
	close(stop)
	<-done
}
