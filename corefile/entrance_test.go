package corefile

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/internal/testnet"
)

// TestMalformed sends what RFC 6891 has answered with FORMERR.
func TestMalformed(t *testing.T) {
	port := testnet.Port(t)
	started(t, Config{Source: Source{File: write(t, says(port, "word"))}})
	opt := func(owner string) dns.RR {
		return &dns.OPT{Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypeOPT, Class: 1232}}
	}
	for name, tc := range map[string]struct {
		change func(*dns.Msg)
		want   int
	}{
		"one OPT":          {func(m *dns.Msg) { m.Extra = []dns.RR{opt(".")} }, dns.RcodeSuccess},
		"two OPT":          {func(m *dns.Msg) { m.Extra = []dns.RR{opt("."), opt(".")} }, dns.RcodeFormatError},
		"OPT of a name":    {func(m *dns.Msg) { m.Extra = []dns.RR{opt("x.test.")} }, dns.RcodeFormatError},
		"OPT in ANSWER":    {func(m *dns.Msg) { m.Answer = []dns.RR{opt(".")} }, dns.RcodeFormatError},
		"OPT in AUTHORITY": {func(m *dns.Msg) { m.Ns = []dns.RR{opt(".")} }, dns.RcodeFormatError},
		"no type":          {func(m *dns.Msg) { m.Question[0].Qtype = 0 }, dns.RcodeFormatError},
	} {
		for _, network := range []string{"udp", "tcp"} {
			m := new(dns.Msg).SetQuestion("x.test.", dns.TypeTXT)
			tc.change(m)
			r, _, err := (&dns.Client{Net: network}).Exchange(m, "127.0.0.1:"+port)
			if err != nil || r.Rcode != tc.want {
				t.Errorf("%s over %s: %v %v", name, network, r, err)
			}
		}
	}
}

// scripted is a plugin and the writer that it writes to.
type scripted struct {
	test.ResponseWriter
	serve func(dns.ResponseWriter, *dns.Msg) (int, error)
	got   *dns.Msg
	err   error // of every write
}

func (*scripted) Name() string { return "scripted" }

func (s *scripted) ServeDNS(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	return s.serve(w, r)
}

func (s *scripted) WriteMsg(m *dns.Msg) error { s.got = m; return s.err }

func (s *scripted) ask(addr string, m *dns.Msg, sized bool) (int, error) {
	ctx := context.WithValue(context.Background(), dnsserver.Key{}, &dnsserver.Server{Addr: addr})
	return (&entrance{next: plugin.Handler(s), sized: sized}).ServeDNS(ctx, s, m)
}

// TestRemoteSize bounds what a spoofed query can have sent to others.
func TestRemoteSize(t *testing.T) {
	for name, tc := range map[string]struct {
		addr, client string
		tcp, sized   bool
		size, want   uint16
	}{
		"remote":              {addr: "dns://:53", client: "192.0.2.1", size: 4096, want: 1232},
		"remote IPv6":         {addr: "dns://:53", client: "2001:db8::1", size: 65535, want: 1232},
		"remote, less":        {addr: "dns://:53", client: "192.0.2.1", size: 600, want: 600},
		"loopback":            {addr: "dns://:53", client: "127.0.0.1", size: 4096, want: 4096},
		"own address":         {addr: "dns://:53", client: "127.0.0.1", size: 4096, want: 4096},
		"tcp":                 {addr: "dns://:53", client: "192.0.2.1", tcp: true, size: 4096, want: 4096},
		"a directive says so": {addr: "dns://:53", client: "192.0.2.1", sized: true, size: 4096, want: 4096},
		"DoQ":                 {addr: "quic://:853", client: "192.0.2.1", size: 4096, want: 4096},
	} {
		var got uint16
		s := &scripted{serve: func(_ dns.ResponseWriter, r *dns.Msg) (int, error) {
			got = r.IsEdns0().UDPSize()
			return dns.RcodeSuccess, nil
		}}
		s.RemoteIP, s.TCP = tc.client, tc.tcp
		if _, err := s.ask(tc.addr, new(dns.Msg).SetQuestion("x.test.", dns.TypeA).SetEdns0(tc.size, false), tc.sized); err != nil || got != tc.want {
			t.Errorf("%s: %d %v, want %d", name, got, err, tc.want)
		}
	}
}

// TestServfailExplained has an Extended DNS Error in every SERVFAIL to a client that
// sent an OPT, however the plugin failed, and no OPT in those to others.
func TestServfailExplained(t *testing.T) {
	failed := errors.New("plugin/scripted: a secret")
	for name, serve := range map[string]func(dns.ResponseWriter, *dns.Msg) (int, error){
		"unwritten": func(dns.ResponseWriter, *dns.Msg) (int, error) { return dns.RcodeServerFailure, failed },
		"written": func(w dns.ResponseWriter, r *dns.Msg) (int, error) {
			return dns.RcodeSuccess, w.WriteMsg(new(dns.Msg).SetRcode(r, dns.RcodeServerFailure))
		},
	} {
		s := &scripted{serve: serve}
		rcode, _ := s.ask("dns://:53", new(dns.Msg).SetQuestion("x.test.", dns.TypeA).SetEdns0(1232, false), false)
		if rcode != dns.RcodeSuccess || s.got == nil || s.got.Rcode != dns.RcodeServerFailure || !explained(s.got) {
			t.Errorf("%s: %d %v", name, rcode, s.got)
		}
		s = &scripted{serve: serve}
		if _, _ = s.ask("dns://:53", new(dns.Msg).SetQuestion("x.test.", dns.TypeA), false); s.got != nil && s.got.IsEdns0() != nil {
			t.Errorf("%s: an OPT for a client without one: %v", name, s.got)
		}
	}
	port := testnet.Port(t)
	started(t, Config{Source: Source{File: write(t, ".:"+port+" {\nbind 127.0.0.1\nerratic {\ndrop 0\n}\nfile missing.zone x.test\n}\n")}})
	for _, network := range []string{"udp", "tcp"} {
		r, _, err := (&dns.Client{Net: network}).Exchange(new(dns.Msg).SetQuestion("x.test.", dns.TypeA).SetEdns0(1232, false), "127.0.0.1:"+port)
		if err != nil || r.Rcode != dns.RcodeServerFailure || !explained(r) {
			t.Errorf("a zone file that is missing, over %s: %v %v", network, r, err)
		}
	}
}

// TestClientGone: a client that closes its connection is no error for the log.
func TestClientGone(t *testing.T) {
	s := &scripted{err: &net.OpError{Op: "write", Err: errors.New("broken pipe")}}
	s.serve = func(w dns.ResponseWriter, r *dns.Msg) (int, error) {
		return dns.RcodeSuccess, w.WriteMsg(new(dns.Msg).SetReply(r))
	}
	if _, err := s.ask("dns://:53", new(dns.Msg).SetQuestion("x.test.", dns.TypeA), false); err != nil {
		t.Error(err)
	}
	s.err = errors.New("cannot be packed")
	if _, err := s.ask("dns://:53", new(dns.Msg).SetQuestion("x.test.", dns.TypeA), false); err == nil {
		t.Error("a fault of ours was swallowed")
	}
}
