package rrl

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/internal/answer"
	"github.com/resolverd/resolverd/internal/cookie"
	"github.com/resolverd/resolverd/internal/ratelimit"
)

// said is a writer that keeps what is written, for a client.
type said struct {
	dns.ResponseWriter
	from net.Addr
	msgs []*dns.Msg
	raw  [][]byte
}

func (s *said) RemoteAddr() net.Addr { return s.from }
func (s *said) LocalAddr() net.Addr  { return &net.UDPAddr{IP: net.IPv4(192, 0, 2, 53), Port: 53} }
func (s *said) WriteMsg(m *dns.Msg) error {
	s.msgs = append(s.msgs, m)
	return nil
}

func (s *said) Write(p []byte) (int, error) {
	s.raw = append(s.raw, p)
	return len(p), nil
}

func udp(s string) net.Addr { return net.UDPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
func tcp(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }

// on returns the context of a query to a listener.
func on(listener string) context.Context {
	return context.WithValue(context.Background(), dnsserver.Key{}, &dnsserver.Server{Addr: listener})
}

var secret = cookie.Secret{1, 2, 3}

// limiting returns a handler above next that lets rates a second pass, and of the rest
// every second slip.
func limiting(next plugin.Handler, rates ...uint32) *Handler {
	s := ratelimit.Default()
	copy(s.Rates[:], rates)
	return &Handler{next: next, limiter: ratelimit.New(s, ratelimit.NewTable(), &ratelimit.Counts{}), keeper: cookie.Fixed([]cookie.Secret{secret})}
}

// says is a chain that answers by the first label: a, nx, no, fail, or by its RCODE alone
// and an error: bare.
var says = plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	m := new(dns.Msg).SetReply(r)
	m.Authoritative, m.RecursionAvailable, m.AuthenticatedData = true, true, true
	label, _, _ := strings.Cut(r.Question[0].Name, ".")
	switch label {
	case "a":
		rr, _ := dns.NewRR(r.Question[0].Name + " 60 IN A 192.0.2.7")
		m.Answer = []dns.RR{rr}
	case "nx":
		m.Rcode = dns.RcodeNameError
	case "fail":
		m.Rcode = dns.RcodeServerFailure
	case "bare":
		return dns.RcodeServerFailure, errors.New("broken")
	}
	return dns.RcodeSuccess, w.WriteMsg(m)
})

// outcome is in a word what the client got.
func outcome(w *said, rcode int) string {
	switch {
	case len(w.msgs) == 0 && plugin.ClientWrite(rcode):
		return "-"
	case len(w.msgs) == 0:
		return "=" + dns.RcodeToString[rcode]
	case len(w.msgs) > 1:
		return "more than one"
	}
	m := w.msgs[0]
	word := dns.RcodeToString[m.Rcode]
	if m.Truncated {
		word += " TC"
	}
	if len(m.Answer) > 0 {
		word += " +"
	}
	return word
}

type query struct {
	name string
	from net.Addr
	opts []string // cookies in hex; nil is no OPT
	ctx  context.Context
}

func (q query) ask(t *testing.T, h *Handler) (*said, string) {
	t.Helper()
	r := new(dns.Msg).SetQuestion(q.name, dns.TypeA)
	if q.opts != nil {
		r.SetEdns0(1232, false)
		for _, c := range q.opts {
			r.IsEdns0().Option = append(r.IsEdns0().Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: c})
		}
	}
	w := &said{from: q.from}
	if q.ctx == nil {
		q.ctx = on("dns://:53")
	}
	rcode, _ := h.ServeDNS(q.ctx, w, r)
	return w, outcome(w, rcode)
}

// ask asks n times for the name and returns the outcomes.
func ask(t *testing.T, h *Handler, q query, n int) string {
	t.Helper()
	var all []string
	for range n {
		_, o := q.ask(t, h)
		all = append(all, o)
	}
	return strings.Join(all, ", ")
}

const client = "a1a2a3a4a5a6a7a8"

// good returns a cookie that the handlers here take from the address now.
func good(from string) string {
	_, c := cookie.Fixed([]cookie.Secret{secret}).Judge([]byte{0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8}, netip.MustParseAddr(from), time.Now())
	return hex.EncodeToString(c[:])
}

func TestOutcomes(t *testing.T) {
	from := udp("192.0.2.1:1000")
	for name, tc := range map[string]struct {
		q    query
		want string
	}{
		"answers":             {query{name: "a.test.", from: from}, "NOERROR +, NOERROR +, -, NOERROR TC, -"},
		"denials":             {query{name: "nx.test.", from: from}, "NXDOMAIN, -, NXDOMAIN TC, -, NXDOMAIN TC"},
		"no data":             {query{name: "no.test.", from: from}, "NOERROR, -, NOERROR TC, -, NOERROR TC"},
		"errors":              {query{name: "fail.test.", from: from}, "SERVFAIL, -, SERVFAIL TC, -, SERVFAIL TC"},
		"the server's errors": {query{name: "bare.test.", from: from}, "=SERVFAIL, -, SERVFAIL TC, -, SERVFAIL TC"},
		"TCP":                 {query{name: "a.test.", from: tcp("192.0.2.1:1000")}, "NOERROR +, NOERROR +, NOERROR +, NOERROR +, NOERROR +"},
		"DoT":                 {query{name: "a.test.", from: tcp("192.0.2.1:1000"), ctx: on("tls://:853")}, "NOERROR +, NOERROR +, NOERROR +, NOERROR +, NOERROR +"},
		"DoH":                 {query{name: "a.test.", from: tcp("192.0.2.1:1000"), ctx: on("https://:443")}, "NOERROR +, NOERROR +, NOERROR +, NOERROR +, NOERROR +"},
		"DoH over QUIC":       {query{name: "a.test.", from: udp("192.0.2.1:1000"), ctx: on("https3://:443")}, "NOERROR +, NOERROR +, NOERROR +, NOERROR +, NOERROR +"},
		"DoQ":                 {query{name: "a.test.", from: udp("192.0.2.1:1000"), ctx: on("quic://:853")}, "NOERROR +, NOERROR +, NOERROR +, NOERROR +, NOERROR +"},
		"loopback":            {query{name: "a.test.", from: udp("127.0.0.1:1000")}, "NOERROR +, NOERROR +, NOERROR +, NOERROR +, NOERROR +"},
		"a good cookie":       {query{name: "a.test.", from: from, opts: []string{good("192.0.2.1")}}, "NOERROR +, NOERROR +, NOERROR +, NOERROR +, NOERROR +"},
		"another's cookie":    {query{name: "a.test.", from: from, opts: []string{good("192.0.2.2")}}, "NOERROR +, NOERROR +, BADCOOKIE, NOERROR TC, -"},
		"a client's cookie":   {query{name: "a.test.", from: from, opts: []string{client}}, "NOERROR +, NOERROR +, BADCOOKIE, NOERROR TC, -"},
		"one for an error":    {query{name: "fail.test.", from: from, opts: []string{client}}, "SERVFAIL, -, SERVFAIL TC, -, SERVFAIL TC"},
		"malformed":           {query{name: "a.test.", from: from, opts: []string{"a1a2"}}, "=FORMERR, -, FORMERR TC, -, FORMERR TC"},
		"malformed over TCP":  {query{name: "a.test.", from: tcp("192.0.2.1:1000"), opts: []string{""}}, "=FORMERR, =FORMERR, =FORMERR, =FORMERR, =FORMERR"},
		"the first counts":    {query{name: "a.test.", from: from, opts: []string{good("192.0.2.1"), "a1a2"}}, "NOERROR +, NOERROR +, NOERROR +, NOERROR +, NOERROR +"},
		"a question of ours":  {query{name: "a.test.", from: from, ctx: context.WithValue(on("dns://:53"), dnsserver.LoopKey{}, 1)}, "NOERROR +, NOERROR +, NOERROR +, NOERROR +, NOERROR +"},
	} {
		t.Run(name, func(t *testing.T) {
			h := limiting(says, 2, 1, 1)
			if got := ask(t, h, tc.q, 5); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

// TestTime has a flood and a quiet prefix, over ten seconds.
func TestTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := limiting(says, 20)
		whole := map[string]int{}
		for range 1000 {
			for _, from := range []string{"192.0.2.1:1000", "192.0.2.99:1000"} {
				if _, o := (query{name: "a.test.", from: udp(from)}).ask(t, h); o == "NOERROR +" {
					whole["flood"]++
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
		for range 100 {
			if _, o := (query{name: "a.test.", from: udp("192.0.3.1:1000")}).ask(t, h); o == "NOERROR +" {
				whole["quiet"]++
			}
			time.Sleep(100 * time.Millisecond)
		}
		if d := cmp.Diff(map[string]int{"flood": 20*10 + 20 - 1, "quiet": 100}, whole); d != "" {
			t.Error(d)
		}
	})
}

// TestSlowChain: what counts is when the response leaves, not when the query came.
func TestSlowChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := plugin.HandlerFunc(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
			time.Sleep(2 * time.Second)
			return says(ctx, w, r)
		})
		h := limiting(slow, 1)
		if got := ask(t, h, query{name: "a.test.", from: udp("192.0.2.1:1000")}, 5); strings.Contains(got, "TC") || strings.Contains(got, "-") {
			t.Error(got)
		}
	})
}

func TestCookies(t *testing.T) {
	h := limiting(says, 1, 1, 1)
	cookieOf := func(m *dns.Msg) string {
		var all []string
		for _, o := range m.IsEdns0().Option {
			if c, ok := o.(*dns.EDNS0_COOKIE); ok {
				all = append(all, c.Cookie)
			}
		}
		return strings.Join(all, " ")
	}
	for _, from := range []net.Addr{udp("192.0.2.1:1000"), tcp("192.0.2.1:1000")} {
		w, _ := query{name: "a.test.", from: from, opts: []string{client}}.ask(t, h)
		if got, want := cookieOf(w.msgs[0]), good("192.0.2.1"); got != want {
			t.Errorf("%s: cookie %q, want %q", from.Network(), got, want)
		}
	}
	// Beyond the rate it is in BADCOOKIE, and in what slips.
	for _, want := range []string{"BADCOOKIE", "NOERROR TC"} {
		w, o := query{name: "a.test.", from: udp("192.0.2.1:1000"), opts: []string{client}}.ask(t, h)
		if o != want || cookieOf(w.msgs[0]) != good("192.0.2.1") {
			t.Errorf("%s with %q, want %s", o, cookieOf(w.msgs[0]), want)
		}
		if _, err := w.msgs[0].Pack(); err != nil {
			t.Error(err)
		}
	}
	// And with it the client is known.
	if got := ask(t, h, query{name: "a.test.", from: udp("192.0.2.1:1000"), opts: []string{good("192.0.2.1")}}, 3); got != "NOERROR +, NOERROR +, NOERROR +" {
		t.Error(got)
	}
	// Without a cookie there is none, nor an OPT.
	w, _ := query{name: "a.test.", from: udp("192.0.9.1:1000")}.ask(t, h)
	if w.msgs[0].IsEdns0() != nil {
		t.Errorf("%v", w.msgs[0])
	}
}

// TestNeighbours: cookies and our changes stay between the client and us.
func TestNeighbours(t *testing.T) {
	shared := new(dns.Msg)
	var below *dns.Msg
	h := limiting(plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		below = r
		shared.SetReply(r)
		shared.SetEdns0(1232, false)
		shared.IsEdns0().Option = []dns.EDNS0{
			&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "ffffffffffffffff"}, // an upstream's
			&dns.EDNS0_EDE{InfoCode: 3},
		}
		return dns.RcodeSuccess, w.WriteMsg(shared)
	}), 10)
	r := new(dns.Msg).SetQuestion("a.test.", dns.TypeA).SetEdns0(1232, true)
	r.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_NSID{Code: dns.EDNS0NSID}, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: client}}
	asked := r.Copy()
	w := &said{from: udp("192.0.2.1:1000")}
	if _, err := h.ServeDNS(on("dns://:53"), w, r); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(asked.String(), r.String()); d != "" {
		t.Errorf("the query was changed:\n%s", d)
	}
	if o := below.IsEdns0().Option; len(o) != 1 || o[0].Option() != dns.EDNS0NSID || !below.IsEdns0().Do() {
		t.Errorf("below they see %v", below.IsEdns0())
	}
	if len(shared.IsEdns0().Option) != 2 || shared.IsEdns0().Option[0].String() != "ffffffffffffffff" {
		t.Errorf("the shared response was changed: %v", shared.IsEdns0())
	}
	if o := w.msgs[0].IsEdns0().Option; len(o) != 2 || o[0].Option() != dns.EDNS0EDE || o[1].String() != good("192.0.2.1") {
		t.Errorf("the client sees %v", w.msgs[0].IsEdns0())
	}
}

// TestInside: what a plugin asks to answer a query is not limited again, nor dressed.
func TestInside(t *testing.T) {
	var h *Handler
	h = limiting(plugin.HandlerFunc(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		if r.Question[0].Name == "outer.test." {
			in := &said{from: w.RemoteAddr()}
			for range 5 {
				if _, err := h.ServeDNS(ctx, in, new(dns.Msg).SetQuestion("a.test.", dns.TypeA)); err != nil {
					return dns.RcodeServerFailure, err
				}
			}
			m := new(dns.Msg).SetReply(r)
			for _, i := range in.msgs {
				m.Answer = append(m.Answer, i.Answer...)
			}
			return dns.RcodeSuccess, w.WriteMsg(m)
		}
		return says(ctx, w, r)
	}), 1)
	w, _ := query{name: "outer.test.", from: udp("192.0.2.1:1000")}.ask(t, h)
	if n := len(w.msgs[0].Answer); n != 5 {
		t.Errorf("%d of 5 questions inside were answered", n)
	}
}

func TestVerdict(t *testing.T) {
	h := limiting(says, 1, 1, 1)
	for i, want := range []bool{true, false, false} {
		var v answer.Verdict
		v.Share(answer.Shareable{Until: time.Now().Add(time.Hour)})
		query{name: "nx.test.", from: udp("192.0.2.1:1000"), ctx: answer.WithVerdict(on("dns://:53"), &v)}.ask(t, h)
		if _, ok := v.Shareable(); ok != want {
			t.Errorf("%d: to be learnt %v", i, ok)
		}
		if l := v.Limited(); l.By != h.limiter || l.Class != ratelimit.Denial {
			t.Errorf("%d: limited by %v", i, l)
		}
	}
	// An exempt client's answer is for others, too.
	var v answer.Verdict
	query{name: "a.test.", from: udp("127.0.0.1:1000"), ctx: answer.WithVerdict(on("dns://:53"), &v)}.ask(t, h)
	if v.Limited().By != h.limiter {
		t.Error("what was answered on loopback is repeated without limit")
	}
}

// TestPackets: a plugin may write a packet.
func TestPackets(t *testing.T) {
	h := limiting(plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		p, err := new(dns.Msg).SetReply(r).Pack()
		if err != nil {
			return dns.RcodeServerFailure, err
		}
		_, err = w.Write(p)
		return dns.RcodeSuccess, err
	}), 9, 1)
	if got := ask(t, h, query{name: "a.test.", from: udp("192.0.2.1:1000")}, 3); got != "NOERROR, -, NOERROR TC" {
		t.Error(got)
	}
	w := &said{from: tcp("192.0.2.1:1000")}
	if _, err := h.ServeDNS(on("dns://:53"), w, new(dns.Msg).SetQuestion("a.test.", dns.TypeA)); err != nil || len(w.raw) != 1 {
		t.Errorf("over TCP %d packets, %v", len(w.raw), err)
	}
	g := &gate{ResponseWriter: w, handler: h, forgeable: true}
	if _, err := g.Write([]byte{1, 2, 3}); err == nil {
		t.Error("what is no message passes")
	}
}

func TestCounted(t *testing.T) {
	var c ratelimit.Counts
	s := ratelimit.Default()
	s.Rates = [ratelimit.Classes]uint32{1, 1, 2}
	h := &Handler{next: says, limiter: ratelimit.New(s, ratelimit.NewTable(), &c), keeper: cookie.Fixed([]cookie.Secret{secret})}
	ask(t, h, query{name: "a.test.", from: udp("192.0.2.1:1000")}, 5)
	ask(t, h, query{name: "a.test.", from: udp("192.0.2.1:1000"), opts: []string{client}}, 2)
	ask(t, h, query{name: "a.test.", from: udp("192.0.2.1:1000"), opts: []string{good("192.0.2.1")}}, 3)
	ask(t, h, query{name: "a.test.", from: udp("[::1]:1000")}, 4)
	ask(t, h, query{name: "a.test.", from: tcp("192.0.2.1:1000")}, 4)
	got := map[string]uint64{}
	for r := range ratelimit.Results {
		got[fmt.Sprint(r)] = c.Of(ratelimit.Answer, r)
	}
	want := map[string]uint64{"passed": 1, "dropped": 2, "slipped": 2, "badcookie": 2, "cookie": 3, "exempt": 4}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
