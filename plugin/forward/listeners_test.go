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

// The listeners of a Corefile that was refused are forgotten.
func TestRegistryKeepsTheServingCorefile(t *testing.T) {
	r := &registry{blocks: map[*dnsserver.Config]block{}}
	old, refused := caddy.NewTestController("dns", "").Context(), caddy.NewTestController("dns", "").Context()
	a, b := new(dnsserver.Config), new(dnsserver.Config)
	r.add(old, a, listeners{Listeners: hostnet.NewListeners("53", []string{"127.0.0.1"}, nil)})
	r.add(refused, b, listeners{Listeners: hostnet.NewListeners("54", []string{"127.0.0.1"}, nil)})
	x, y := netip.MustParseAddrPort("127.0.0.1:53"), netip.MustParseAddrPort("127.0.0.1:54")
	if !r.has(x) || !r.has(y) {
		t.Fatal("not known")
	}
	r.keep(old)
	if !r.has(x) || r.has(y) {
		t.Error("the wrong one was dropped")
	}
	r.remove(a)
	if r.has(x) {
		t.Error("still known after its end")
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
	config.Port, config.ListenHosts, config.Transport = "53", []string{"127.0.0.5"}, "dns"
	if err := setup(c); err != nil {
		t.Fatal(err)
	}
	defer known.remove(config)
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
	config.Port, config.ListenHosts, config.Transport = "53", []string{"127.0.0.5"}, "dns"
	if err := setup(c); err != nil {
		t.Fatalf("it does not start: %v", err)
	}
	defer known.remove(config)
	dnsserver.NewServer("", []*dnsserver.Config{config})
	h := config.Handler("forward").(*Forward)
	h.pool.Start()
	if got := serve(h, query("example.org.", dns.TypeA)).text(); got != "SERVFAIL EDE 22" {
		t.Errorf("got %q", got)
	}
}
