package corefile

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/coredns/caddy/caddyfile"
)

// surfaces are the directives that open an HTTP listener without authentication, with
// the address that they take where none is written. Stock takes all addresses for
// health and ready.
var surfaces = map[string]string{
	"health":     "127.0.0.1:8080",
	"ready":      "127.0.0.1:8181",
	"prometheus": "localhost:9153",
	"pprof":      "localhost:6053",
}

// surface returns the address that a use of one of the surfaces writes, or "".
func (u *use) surface() string {
	if len(u.tokens) > 1 && sameLine(u.tokens[0], u.tokens[1]) && u.tokens[1].Text != "{" {
		return u.tokens[1].Text
	}
	return ""
}

// control gives health and ready a loopback address where none is written, on the same
// line, and warns of a written one that is not loopback.
func (l *Loaded) control() {
	for i := range l.Blocks {
		uses := l.Blocks[i].uses
		for j := range uses {
			u := &uses[j]
			standard, ok := surfaces[u.name]
			if !ok {
				continue
			}
			t := u.tokens[0]
			switch addr := u.surface(); {
			case addr != "" && !loopback(addr):
				l.Warnings = append(l.Warnings, fmt.Sprintf("%s: %s listens on %s without authentication: anybody who reaches the address can use it",
					l.at(t), u.name, addr))
			case addr == "" && (u.name == "health" || u.name == "ready"):
				u.tokens = slices.Insert(slices.Clone(u.tokens), 1, caddyfile.Token{File: t.File, Line: t.Line, Text: standard})
			}
		}
	}
}

// loopback says whether host:port is reachable from this host only.
func loopback(hostport string) bool {
	a, ok := hostPort(hostport)
	return !ok || a.Addr().IsLoopback() // the setup refuses what is not one
}

// hostPort reads what stock plugins take as a listener: no host is all addresses.
func hostPort(s string) (netip.AddrPort, bool) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return netip.AddrPort{}, false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, false
	}
	switch host {
	case "":
		return netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(n)), true
	case "localhost":
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(n)), true
	}
	a, err := netip.ParseAddr(host)
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), err == nil
}
