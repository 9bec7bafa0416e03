package registry_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/transfer"
	"github.com/miekg/dns"
	"github.com/resolverd/resolverd/internal/resident"
	"github.com/resolverd/resolverd/internal/testnet"
	_ "github.com/resolverd/resolverd/plugin/registry"
	_ "github.com/resolverd/resolverd/plugin/specialuse"
	"github.com/resolverd/resolverd/registry/names/scene"
)

// TestServer runs a real server: UDP, TCP, a zone transfer, and an external host that is
// looked up in the same server.
func TestServer(t *testing.T) {
	var b strings.Builder
	b.WriteString("node n1 10.0.0.1 meta.rack=r7\ninstance n1/ext ext host.localhost:1\n")
	for i := range 50 {
		fmt.Fprintf(&b, "instance n1/w%02d web 10.1.0.%d:80\n", i, i+1)
	}
	view := scene.New(b.String())
	view.Heard(time.Now())
	resident.Provide("registry.view", view)
	defer resident.Provide("registry.view", nil)
	addr := serve(t, "registry\nspecialuse\ntransfer internal {\n to *\n}")

	udp := &dns.Client{UDPSize: 8192}
	m := exchange(t, udp, addr, "web.service.internal.", dns.TypeSRV, 8192)
	if len(m.Answer) != 50 || len(m.Extra) != 51 || m.Extra[50].Header().Rrtype != dns.TypeOPT || m.Truncated {
		t.Errorf("%d answers, %d additional, tc %v", len(m.Answer), len(m.Extra), m.Truncated)
	}
	m = exchange(t, udp, addr, "web.service.internal.", dns.TypeSRV, 0)
	if m.Compress = true; !m.Truncated || m.Len() > 512 || len(m.Answer) == 0 {
		t.Errorf("%d octets, tc %v", m.Len(), m.Truncated)
	}
	m = exchange(t, &dns.Client{Net: "tcp"}, addr, "WEB.service.internal.", dns.TypeSRV, 0)
	if m.Truncated || len(m.Answer) != 50 || len(m.Extra) != 50 || m.Answer[7].Header().Name != "WEB.service.internal." {
		t.Errorf("%d answers, %d additional, tc %v", len(m.Answer), len(m.Extra), m.Truncated)
	}
	m = exchange(t, udp, addr, "ext.service.internal.", dns.TypeA, 1232)
	if len(m.Answer) != 2 || m.Answer[1].(*dns.A).A.String() != "127.0.0.1" {
		t.Errorf("external: %v", m)
	}
	m = exchange(t, udp, addr, "1.0.0.10.in-addr.arpa.", dns.TypePTR, 1232)
	if len(m.Answer) != 1 || m.Answer[0].(*dns.PTR).Ptr != "n1.node.internal." {
		t.Errorf("PTR: %v", m)
	}
	m = exchange(t, udp, addr, "2.0.0.10.in-addr.arpa.", dns.TypePTR, 1232)
	if m.Rcode != dns.RcodeNameError || m.Ns[0].Header().Name != "10.in-addr.arpa." {
		t.Errorf("PTR of a private address: %v", m)
	}
	m = exchange(t, udp, addr, "ns.internal.", dns.TypeA, 1232)
	if len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != "127.0.0.1" {
		t.Errorf("ns: %v", m)
	}

	q := new(dns.Msg)
	q.SetAxfr("internal.")
	envelopes, err := new(dns.Transfer).In(q, addr)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for e := range envelopes {
		if e.Error != nil {
			t.Fatal(e.Error)
		}
		n += len(e.RR)
	}
	// SOA twice, NS, node A and TXT, 50 A, SRV, SRV, instance A and SRV; 3 for ext.
	if want := 2 + 1 + 2 + 50*5 + 3; n != want {
		t.Errorf("%d RRs transferred, want %d", n, want)
	}
}

func exchange(t *testing.T, c *dns.Client, addr, name string, qtype, size uint16) *dns.Msg {
	t.Helper()
	q := new(dns.Msg)
	q.SetQuestion(name, qtype)
	if size > 0 {
		q.SetEdns0(size, false)
	}
	m, _, err := c.Exchange(q, addr)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return m
}

// serve starts a server with the directives on a free loopback port.
func serve(t *testing.T, directives string) (addr string) {
	t.Helper()
	for _, d := range []string{"specialuse", "registry", "transfer"} {
		if !slices.Contains(dnsserver.Directives, d) {
			dnsserver.Directives = append([]string{d}, dnsserver.Directives...)
		}
	}
	caddy.Quiet, dnsserver.Quiet = true, true
	port := testnet.Port(t)
	text := fmt.Sprintf(".:%s {\nbind 127.0.0.1\n%s\n}\n", port, directives)
	instance, err := caddy.Start(caddy.CaddyfileInput{Contents: []byte(text), Filepath: "Corefile", ServerTypeName: "dns"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		instance.ShutdownCallbacks()
		instance.Stop()
	})
	return "127.0.0.1:" + port
}
