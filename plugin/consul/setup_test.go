package consul

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	local := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:8600")}
	tests := []struct {
		name     string
		corefile string
		want     settings
		err      string // part of the error; "" for none
	}{
		{"bare", "consul", settings{zones: []string{"service.consul."}, to: local, timeout: time.Second, limit: 512}, ""},
		{"all", "consul all", settings{zones: []string{"consul."}, to: local, timeout: time.Second, limit: 512}, ""},
		{"a zone", "consul Consul", settings{zones: []string{"consul."}, to: local, timeout: time.Second, limit: 512}, ""},
		{"two zones", "consul service.consul node.consul", settings{zones: []string{"service.consul.", "node.consul."}, to: local, timeout: time.Second, limit: 512}, ""},
		{"agents", "consul {\nto 10.0.0.1 10.0.0.2:53 [fd00::1]:8601 fd00::2 [fd00::3]\nto 10.0.0.1:8600\n}", settings{
			zones: []string{"service.consul."},
			to: []netip.AddrPort{
				netip.MustParseAddrPort("10.0.0.1:8600"), netip.MustParseAddrPort("10.0.0.2:53"),
				netip.MustParseAddrPort("[fd00::1]:8601"), netip.MustParseAddrPort("[fd00::2]:8600"), netip.MustParseAddrPort("[fd00::3]:8600"),
			},
			timeout: time.Second, limit: 512,
		}, ""},
		{
			"all properties", "consul {\ntimeout 300ms\nmax_concurrent 20\nforce_tcp\n}",
			settings{zones: []string{"service.consul."}, to: local, timeout: 300 * time.Millisecond, limit: 20, forceTCP: true},
			"",
		},

		{"twice", "consul\nconsul all", settings{}, "only one consul"},
		{"bad zone", "consul " + strings.Repeat("x", 64), settings{}, "unable to normalize"},
		{"to nobody", "consul {\nto\n}", settings{}, "Wrong argument count"},
		{"to a name", "consul {\nto consul.example.org\n}", settings{}, "IP address"},
		{"to a bad port", "consul {\nto 127.0.0.1:70000\n}", settings{}, "IP address"},
		{"to port 0", "consul {\nto 127.0.0.1:0\n}", settings{}, "not the address of an agent"},
		{"to everywhere", "consul {\nto 0.0.0.0\n}", settings{}, "not the address of an agent"},
		{"timeout of nothing", "consul {\ntimeout\n}", settings{}, "Wrong argument count"},
		{"timeout 0", "consul {\ntimeout 0s\n}", settings{}, "timeout"},
		{"timeout too long", "consul {\ntimeout 1m\n}", settings{}, "timeout"},
		{"timeout without unit", "consul {\ntimeout 3\n}", settings{}, "timeout"},
		{"max_concurrent 0", "consul {\nmax_concurrent 0\n}", settings{}, "max_concurrent"},
		{"max_concurrent many", "consul {\nmax_concurrent many\n}", settings{}, "max_concurrent"},
		{"force_tcp with a value", "consul {\nforce_tcp yes\n}", settings{}, "Wrong argument count"},
		{"unknown", "consul {\nfallthrough\n}", settings{}, "unknown property 'fallthrough'"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parse(caddy.NewTestController("dns", tt.corefile))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, *got, cmp.AllowUnexported(settings{}), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTransportByDistance(t *testing.T) {
	tests := []struct {
		to   string
		tcp  bool
		size uint16
	}{
		{"127.0.0.1", false, loopbackSize},
		{"::1", false, loopbackSize},
		{"10.0.0.1", true, 1232},
		{"127.0.0.1 10.0.0.1", true, 1232},
	}
	for _, tt := range tests {
		t.Run(tt.to, func(t *testing.T) {
			s, err := parse(caddy.NewTestController("dns", "consul {\nto "+tt.to+"\n}"))
			if err != nil {
				t.Fatal(err)
			}
			if o := s.options(); o.ForceTCP != tt.tcp || o.EDNSSize != tt.size {
				t.Errorf("tcp %t size %d, want %t %d", o.ForceTCP, o.EDNSSize, tt.tcp, tt.size)
			}
		})
	}
}
