package forward

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
)

const (
	maxResolvConf  = 64 << 10 // octets of a file that are read
	maxNameservers = 15       // upstreams that one file may name
)

// ParseResolvConf returns the addresses of the nameserver lines of a resolv.conf
// (resolv.conf(5)), each once, in order, at most 15. What cannot be read is passed
// over. An IPv6 zone is kept for a link-local address and dropped for others.
func ParseResolvConf(text []byte) []netip.Addr {
	var out []netip.Addr
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) < 2 || string(fields[0]) != "nameserver" {
			continue
		}
		a, err := netip.ParseAddr(string(fields[1]))
		if err != nil {
			continue
		}
		a = a.Unmap()
		if !a.IsLinkLocalUnicast() {
			a = a.WithZone("")
		}
		if a.IsUnspecified() {
			// The host itself, as the C library takes it.
			if a = netip.AddrFrom4([4]byte{127, 0, 0, 1}); fields[1][0] == ':' {
				a = netip.IPv6Loopback()
			}
		}
		if a.IsMulticast() || slices.Contains(out, a) {
			continue
		}
		if out = append(out, a); len(out) == maxNameservers {
			break
		}
	}
	return out
}

// readResolvConf returns the plain endpoints that the file names.
func readResolvConf(path string) ([]Endpoint, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("forward: read upstreams: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxResolvConf))
	if err != nil {
		return nil, fmt.Errorf("forward: read upstreams: %w", err)
	}
	var out []Endpoint
	for _, a := range ParseResolvConf(text) {
		out = append(out, Endpoint{Addr: netip.AddrPortFrom(a, Plain.DefaultPort())})
	}
	return out, nil
}

// refresh reads the files anew and takes over what changed. A file that names nobody,
// or only us, leaves the set as it was.
func (p *Pool) refresh() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.o.Sources {
		if s.File == "" {
			continue
		}
		found, err := readResolvConf(s.File)
		fit := slices.DeleteFunc(found, func(e Endpoint) bool { return isOurs(p.o.Ours, e.Addr) })
		if len(fit) > 0 {
			p.good[s.File] = fit
			p.empty[s.File] = false
			continue
		}
		if !p.empty[s.File] {
			p.empty[s.File] = true
			attrs := []any{"pool", p.o.Name, "file", s.File, "kept", len(p.good[s.File])}
			if err != nil {
				attrs = append(attrs, "error", err)
			}
			text := "file names no upstream other than ourselves, the last good ones are kept"
			if len(p.good[s.File]) == 0 {
				text = "file names no upstream other than ourselves, queries fail until it does"
			}
			p.o.Log.Warn(text, attrs...)
		}
	}
	p.install()
}

// install makes the upstreams of all sources the pool's, each endpoint once, and keeps
// those that were there with their health and connections. The caller holds mu.
func (p *Pool) install() {
	var (
		want   []Endpoint
		backup []bool
	)
	for _, s := range p.o.Sources {
		list := []Endpoint{s.Endpoint}
		switch {
		case s.File != "":
			list = p.good[s.File]
		case s.Host != "":
			list = nil
			for _, a := range p.hosts[s.Host] {
				list = append(list, s.at(a))
			}
		}
		for _, e := range list {
			if !slices.Contains(want, e) {
				want, backup = append(want, e), append(backup, s.Backup)
			}
		}
	}
	now := *p.ups.Load()
	if slices.EqualFunc(now, want, func(u *upstream, e Endpoint) bool { return u.Endpoint == e }) {
		return
	}
	next := make([]*upstream, 0, len(want))
	for i, e := range want {
		at := slices.IndexFunc(now, func(u *upstream) bool { return u.Endpoint == e })
		if at >= 0 {
			next = append(next, now[at])
			continue
		}
		u := newUpstream(e, &p.o)
		u.backup = backup[i]
		if p.closed {
			u.close()
		}
		next = append(next, u)
	}
	p.ups.Store(&next)
	for _, u := range now {
		if !slices.Contains(next, u) {
			u.close()
		}
	}
	if len(now) > 0 || len(p.good) > 0 {
		p.o.Log.Info("upstreams changed", "pool", p.o.Name, "upstreams", want)
	}
}
