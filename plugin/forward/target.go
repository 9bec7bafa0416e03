package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	engine "github.com/resolverd/resolverd/forward"
)

const (
	// lookupTimeout bounds the look-up of one host name at setup, resolverTimeout that by
	// one of the resolvers written.
	lookupTimeout   = 5 * time.Second
	resolverTimeout = 2 * time.Second
)

// target is one TO as written.
type target struct {
	transport engine.Transport
	host      string // an address, a host name or a path
	port      uint16 // 0: not written
	name      string // after %, for TLS; an IPv6 zone for plain DNS
}

// parseTargets turns the TOs into sources, in order, each once. serverName is
// tls_servername; resolver, if not empty, is asked for host names, whose addresses are
// put into hosts.
func parseTargets(to []string, serverName string, resolver []netip.AddrPort, hosts map[string][]netip.Addr) ([]engine.Source, error) {
	var out []engine.Source
	add := func(s engine.Source) {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	for _, text := range to {
		t, err := parseTarget(text)
		if err != nil {
			return nil, err
		}
		if t.name != "" && serverName != "" && t.transport != engine.Plain {
			return nil, fmt.Errorf("both forward ('%s') and proxy level ('%s') TLS servernames are set for upstream proxy '%s'", serverName, t.name, t)
		}
		switch addr, err := netip.ParseAddr(t.host); {
		case err == nil:
			add(engine.Source{Endpoint: t.endpoint(addr)})
		case t.isFile():
			switch info, err := os.Stat(t.host); {
			case err != nil:
				log.Warningf("upstreams are read from %s once it can be read: %s", t.host, err)
			case info.IsDir():
				return nil, fmt.Errorf("not an IP address, file, or valid domain: %q is a directory", t.host)
			}
			add(engine.Source{File: t.host})
		default:
			addrs, err := t.lookup(resolver)
			if err != nil {
				return nil, err
			}
			host := dns.CanonicalName(t.host)
			hosts[host] = addrs
			add(engine.Source{Host: host, Endpoint: t.endpoint(netip.Addr{})})
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no valid upstream addresses found")
	}
	return out, nil
}

// parseTarget takes a TO apart: [scheme://]HOST[%NAME][:PORT], HOST in brackets where it
// is an IPv6 address with a port, %NAME inside the brackets then. It may be a path.
func parseTarget(text string) (target, error) {
	var t target
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		scheme, rest = "dns", text
	}
	switch scheme {
	case "dns":
		t.transport = engine.Plain
	case "tls":
		t.transport = engine.TLS
	case "https":
		t.transport = engine.HTTPS
	case "quic":
		t.transport = engine.QUIC
	case "grpc", "https3", "unix":
		return t, fmt.Errorf("'%s' is not supported as a destination protocol in forward: %s", scheme, text)
	default:
		return t, fmt.Errorf("not an IP address, file, or valid domain: %q", text)
	}
	if rest == "" {
		return t, fmt.Errorf("invalid address: %q", text)
	}
	if strings.Contains(rest, "/") {
		switch {
		case t.transport == engine.HTTPS:
			return t, fmt.Errorf("paths are not allowed in HTTPS upstream addresses (the /dns-query path is used by default): %s", text)
		case found && scheme != "dns":
			return t, fmt.Errorf("not an IP address, file, or valid domain: %q", text)
		}
		t.host = rest
		return t, nil
	}
	host, port, err := splitPort(rest)
	if err != nil {
		return t, fmt.Errorf("invalid address: %q: %w", text, err)
	}
	t.port = port
	t.host, t.name, _ = strings.Cut(host, "%")
	if t.host == "" {
		return t, fmt.Errorf("invalid address: %q", text)
	}
	return t, nil
}

// splitPort takes brackets and port from s. A bare IPv6 address has no port, but with a
// %NAME the last colon is the port's if digits follow it.
func splitPort(s string) (host string, port uint16, err error) {
	if inside, ok := strings.CutPrefix(s, "["); ok {
		host, after, ok := strings.Cut(inside, "]")
		if !ok {
			return "", 0, errors.New("missing ']'")
		}
		if after == "" {
			return host, 0, nil
		}
		text, ok := strings.CutPrefix(after, ":")
		if !ok {
			return "", 0, errors.New("unexpected text after ']'")
		}
		port, err := parsePort(text)
		return host, port, err
	}
	at := strings.LastIndexByte(s, ':')
	if at < 0 {
		return s, 0, nil
	}
	if strings.Count(s, ":") > 1 && strings.LastIndexByte(s, '%') < 0 {
		return s, 0, nil // a bare IPv6 address
	}
	if at < strings.LastIndexByte(s, '%') {
		return s, 0, nil // fe80::1%name
	}
	port, err = parsePort(s[at+1:])
	return s[:at], port, err
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("invalid port %q", s)
	}
	return uint16(n), nil
}

// parseAddrPort parses ADDR or ADDR:PORT.
func parseAddrPort(s string, port uint16) (netip.AddrPort, bool) {
	host, p, err := splitPort(s)
	if err != nil {
		return netip.AddrPort{}, false
	}
	if p == 0 {
		p = port
	}
	a, err := netip.ParseAddr(host)
	return netip.AddrPortFrom(a.Unmap(), p), err == nil
}

// String returns scheme, address and port, without the name.
func (t target) String() string {
	s := t.host
	if t.port != 0 {
		s = net.JoinHostPort(t.host, strconv.Itoa(int(t.port)))
	}
	return t.transport.String() + "://" + s
}

// endpoint makes the endpoint at addr.
func (t target) endpoint(addr netip.Addr) engine.Endpoint {
	addr = addr.Unmap()
	e := engine.Endpoint{Transport: t.transport}
	switch {
	case t.transport != engine.Plain:
		e.ServerName = t.name
	case t.name != "" && addr.IsLinkLocalUnicast() && addr.Is6():
		addr = addr.WithZone(t.name)
	}
	port := t.port
	if port == 0 {
		port = t.transport.DefaultPort()
	}
	e.Addr = netip.AddrPortFrom(addr, port)
	return e
}

// isFile says whether the target names a resolv.conf: a path, which need not exist yet,
// or a file of the working directory that does.
func (t target) isFile() bool {
	if t.transport != engine.Plain || t.port != 0 {
		return false
	}
	if strings.Contains(t.host, "/") {
		return true
	}
	info, err := os.Stat(t.host)
	return err == nil && info.Mode().IsRegular()
}

// lookup returns the addresses of a host name, which is taken as absolute.
func (t target) lookup(resolver []netip.AddrPort) ([]netip.Addr, error) {
	if _, ok := dns.IsDomainName(t.host); !ok {
		return nil, fmt.Errorf("not an IP address, file, or valid domain: %q", t.host)
	}
	var (
		addrs []netip.Addr
		err   error
	)
	if len(resolver) == 0 {
		addrs, err = lookup(net.DefaultResolver, lookupTimeout, t.host)
	}
	for _, at := range resolver {
		if addrs, err = lookup(asking(at), resolverTimeout, t.host); err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("failed to resolve %q: %w", t.host, err)
	}
	return engine.SortAddrs(addrs), nil
}

func lookup(r *net.Resolver, timeout time.Duration, host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return r.LookupNetIP(ctx, "ip", dns.Fqdn(host))
}

// asking returns a resolver that asks at in place of those of the system's resolv.conf.
func asking(at netip.AddrPort) *net.Resolver {
	return &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, at.String())
		},
	}
}
