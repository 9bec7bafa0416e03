package forward

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/miekg/dns"

	engine "github.com/resolverd/resolverd/forward"
	"github.com/resolverd/resolverd/internal/hostnet"
	"github.com/resolverd/resolverd/internal/resident"
)

func TestLeadsBack(t *testing.T) {
	l := listeners{transport: engine.Plain, Listeners: hostnet.NewListeners("53", []string{"127.0.0.1"}, nil)}
	at := func(tr engine.Transport, a string) engine.Endpoint {
		return engine.Endpoint{Transport: tr, Addr: netip.MustParseAddrPort(a)}
	}
	tests := []struct {
		e    engine.Endpoint
		want bool
	}{
		{at(engine.Plain, "127.0.0.1:53"), true},
		{at(engine.Plain, "127.0.0.1:5301"), false},
		{at(engine.Plain, "127.0.0.53:53"), false},
		{at(engine.TLS, "127.0.0.1:53"), false},
	}
	for _, tt := range tests {
		if got := l.leadsBack(tt.e); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.e, got, tt.want)
		}
	}
}

// provide puts listeners in place of the loader's.
func provide(t *testing.T, addrs ...string) {
	t.Helper()
	var all []netip.AddrPort
	for _, a := range addrs {
		all = append(all, netip.MustParseAddrPort(a))
	}
	resident.Provide("listeners", func() []netip.AddrPort { return all })
	t.Cleanup(func() { resident.Provide("listeners", nil) })
}

func TestOfProcess(t *testing.T) {
	host, err := addresses()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		listeners string
		addr      string
		want      bool
	}{
		{"127.0.0.1:53", "127.0.0.1:53", true},
		{"127.0.0.1:53 127.0.0.2:53", "127.0.0.2:53", true},
		{"127.0.0.1:53", "[::ffff:127.0.0.1]:53", true},
		{"127.0.0.1:53", "127.0.0.1:54", false},
		{"127.0.0.1:53", "127.0.0.53:53", false},
		{"[::]:53", "127.0.0.53:53", true},
		{"[::]:53", "[::1]:53", true},
		{"0.0.0.0:53", "192.0.2.53:53", false},
	}
	for _, tt := range tests {
		t.Run(tt.listeners+" "+tt.addr, func(t *testing.T) {
			provide(t, strings.Fields(tt.listeners)...)
			if got := ofProcess(host)(netip.MustParseAddrPort(tt.addr)); got != tt.want {
				t.Errorf("%t, want %t", got, tt.want)
			}
		})
	}
	if ofProcess(host)(netip.MustParseAddrPort("127.0.0.1:53")) {
		t.Error("ours, though nobody provides listeners")
	}
}

// A resolv.conf that points at us beside another upstream: only the other is asked.
func TestResolvConfThatNamesUs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte("nameserver 127.0.0.5\nnameserver 192.0.2.53\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := caddy.NewTestController("dns", "forward . "+path)
	config := dnsserver.GetConfig(c)
	provide(t, "127.0.0.5:53")
	if err := setup(c); err != nil {
		t.Fatal(err)
	}
	dnsserver.NewServer("", []*dnsserver.Config{config})
	h := config.Handler("forward").(*Forward)
	h.pool.Start()
	var got []string
	for _, u := range h.pool.Upstreams() {
		got = append(got, u.Endpoint.String())
	}
	if s := strings.Join(got, " "); s != "192.0.2.53:53" {
		t.Errorf("upstreams %q", s)
	}
}

// One that names only us, from the start: nobody is asked, and the client is told.
func TestResolvConfThatNamesOnlyUs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte("nameserver 127.0.0.5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := caddy.NewTestController("dns", "forward . "+path)
	config := dnsserver.GetConfig(c)
	provide(t, "127.0.0.5:53")
	if err := setup(c); err != nil {
		t.Fatalf("it does not start: %v", err)
	}
	dnsserver.NewServer("", []*dnsserver.Config{config})
	h := config.Handler("forward").(*Forward)
	h.pool.Start()
	if got := serve(h, query("example.org.", dns.TypeA)).text(); got != "SERVFAIL EDE 22" {
		t.Errorf("got %q", got)
	}
}
