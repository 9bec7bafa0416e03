package forward

import (
	"context"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"
)

// packetWriter keeps what is written, and whether as a packet.
type packetWriter struct {
	test.ResponseWriter
	packet []byte
	msg    *dns.Msg
}

func (w *packetWriter) Write(b []byte) (int, error) {
	w.packet = append([]byte(nil), b...)
	w.msg = new(dns.Msg)
	return len(b), w.msg.Unpack(b)
}

func (w *packetWriter) WriteMsg(m *dns.Msg) error {
	w.msg = m
	return nil
}

func TestRelay(t *testing.T) {
	good := answering(t, withA("192.0.2.1"))
	nxdomain := answering(t, withRcode(dns.RcodeNameError))
	servfail := answering(t, withRcode(dns.RcodeServerFailure))
	large := answering(t, func(r *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(r)
		for range 60 {
			m.Answer = append(m.Answer, withA("192.0.2.1")(r).Answer...)
		}
		return m
	})
	withOption := query("example.org.", dns.TypeA)
	withOption.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_LOCAL{Code: 65001, Data: []byte{1}}}
	tests := []struct {
		name     string
		corefile string
		relaying relaying
		query    *dns.Msg
		packet   bool
		want     string
	}{
		{"answer", "forward . " + good, relayAll, query("example.org.", dns.TypeA), true, "NOERROR 192.0.2.1"},
		{"no EDNS", "forward . " + good, relayAll, new(dns.Msg).SetQuestion("example.org.", dns.TypeA), true, "NOERROR 192.0.2.1"},
		{"not allowed", "forward . " + good, relayNone, query("example.org.", dns.TypeA), false, "NOERROR 192.0.2.1"},
		{"an option", "forward . " + good, relayAll, withOption, false, "NOERROR 192.0.2.1"},
		{"denial", "forward . " + nxdomain, relayAll, query("example.org.", dns.TypeA), true, "NXDOMAIN"},
		{"denial that must be counted", "forward . " + nxdomain, relayNoError, query("example.org.", dns.TypeA), false, "NXDOMAIN"},
		{"failure is explained", "forward . " + servfail, relayAll, query("example.org.", dns.TypeA), false, "SERVFAIL EDE 0"},
		{"next", "forward . " + nxdomain + " {\nnext NXDOMAIN\n}\nforward . " + good, relayAll, query("example.org.", dns.TypeA), false, "NOERROR 192.0.2.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := chain(t, tt.corefile)
			h.relaying = tt.relaying
			w := new(packetWriter)
			code, err := h.ServeDNS(context.Background(), w, tt.query)
			got := served{code, w.msg, err}
			if got.text() != tt.want || err != nil {
				t.Fatalf("got %q, %v, want %q", got.text(), err, tt.want)
			}
			if (w.packet != nil) != tt.packet {
				t.Errorf("written as a packet: %t", w.packet != nil)
			}
			if w.msg.Id != tt.query.Id || w.msg.Question[0] != tt.query.Question[0] {
				t.Errorf("id %d, question %v", w.msg.Id, w.msg.Question[0])
			}
		})
	}
	t.Run("larger than the client takes", func(t *testing.T) {
		h := chain(t, "forward . "+large)
		h.relaying = relayAll
		q := query("example.org.", dns.TypeA)
		q.SetEdns0(512, false)
		w := new(packetWriter)
		if _, err := h.ServeDNS(context.Background(), w, q); err != nil || w.packet != nil || w.msg == nil {
			t.Errorf("a packet of %d octets, error %v", len(w.packet), err)
		}
	})
}

type named string

func (n named) Name() string { return string(n) }
func (named) ServeDNS(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
	return 0, nil
}

func TestRelayingOf(t *testing.T) {
	old := dnsserver.Directives
	defer func() { dnsserver.Directives = old }()
	dnsserver.Directives = []string{"errors", "prometheus", "rewrite", "forward"}
	tests := []struct {
		name     string
		handlers []string
		want     relaying
	}{
		{"alone", []string{"forward"}, relayAll},
		{"twice", []string{"forward", "forward"}, relayAll},
		{"indifferent", []string{"errors", "forward"}, relayAll},
		{"metrics", []string{"errors", "prometheus", "forward"}, relayNoError},
		{"rewrite", []string{"rewrite", "forward"}, relayNone},
		{"no directive's name", []string{"stranger", "forward"}, relayNone},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			config := dnsserver.GetConfig(caddy.NewTestController("dns", ""))
			stanzas := 0
			for _, n := range tt.handlers {
				config.AddPlugin(func(plugin.Handler) plugin.Handler { return named(n) })
				if n == "forward" {
					stanzas++
				}
			}
			if _, err := dnsserver.NewServer("", []*dnsserver.Config{config}); err != nil {
				t.Fatal(err)
			}
			if got := relayingOf(config, stanzas); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}
