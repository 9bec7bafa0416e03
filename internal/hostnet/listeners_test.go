package hostnet

import (
	"context"
	"net/netip"
	"testing"
)

func TestListeners(t *testing.T) {
	f, err := start(nil, func() ([]netip.Addr, error) { return []netip.Addr{addr("192.0.2.1")}, nil },
		func(ctx context.Context, _ func()) error { <-ctx.Done(); return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tests := []struct {
		name  string
		port  string
		hosts []string
		addr  string
		want  bool
	}{
		{"bound", "53", []string{"127.0.0.1"}, "127.0.0.1:53", true},
		{"bound, written as mapped", "53", []string{"127.0.0.1"}, "[::ffff:127.0.0.1]:53", true},
		{"another port", "53", []string{"127.0.0.1"}, "127.0.0.1:5353", false},
		{"another loopback address", "53", []string{"127.0.0.1"}, "127.0.0.53:53", false},
		{"wildcard, interface", "53", []string{""}, "192.0.2.1:53", true},
		{"wildcard, loopback", "53", []string{"::"}, "127.0.0.53:53", true},
		{"wildcard, elsewhere", "53", []string{"0.0.0.0"}, "192.0.2.2:53", false},
		{"link-local with zone", "53", []string{"fe80::1%eth0"}, "[fe80::1%eth1]:53", true},
		{"port 0", "0", []string{""}, "127.0.0.1:0", false},
		{"no port", "", []string{""}, "127.0.0.1:0", false},
		{"not bound", "53", nil, "127.0.0.1:53", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := NewListeners(tt.port, tt.hosts, f).Has(netip.MustParseAddrPort(tt.addr)); got != tt.want {
				t.Errorf("Has(%s) = %t, want %t", tt.addr, got, tt.want)
			}
		})
	}
}
