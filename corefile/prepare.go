package corefile

import (
	"cmp"
	"context"
	"errors"
	"net/netip"

	"github.com/coredns/coredns/plugin/pkg/transport"

	"github.com/resolverd/resolverd/internal/listenlock"
)

// socket is one that a Corefile opens.
type socket struct {
	network string // "udp" or "tcp"
	addr    netip.AddrPort
	what    string // the directive that opens it, or "" for DNS
	place   place
}

// sockets lists what l opens, but those whose port the system chooses.
func (l *Loaded) sockets() []socket {
	var out []socket
	seen := map[socket]bool{}
	add := func(network string, addr netip.AddrPort, what string, p place) {
		key := socket{network: network, addr: addr}
		if addr.Port() != 0 && !seen[key] {
			seen[key] = true
			out = append(out, socket{network, addr, what, p})
		}
	}
	for i := range l.Blocks {
		b := &l.Blocks[i]
		at := b.place
		for _, u := range b.uses {
			if u.name == "bind" {
				at = l.at(u.tokens[0])
				break
			}
		}
		for _, h := range b.hosts() {
			for _, k := range b.listens() {
				addr := netip.AddrPortFrom(h, k.port)
				switch k.transport {
				case transport.DNS:
					add("udp", addr, "", at)
					add("tcp", addr, "", at)
				case transport.QUIC, transport.HTTPS3:
					add("udp", addr, "", at)
				default:
					add("tcp", addr, "", at)
				}
			}
		}
	}
	for i := range l.Blocks {
		for _, u := range l.Blocks[i].uses {
			standard, ok := surfaces[u.name]
			if !ok {
				continue
			}
			if addr, ok := hostPort(cmp.Or(u.surface(), standard)); ok {
				add("tcp", addr, u.name, l.at(u.tokens[0]))
			}
		}
	}
	return out
}

// prepare takes the locks on l's listeners and sees that the sockets it opens anew can
// be opened: afterwards it would be too late for CoreDNS to undo what it began.
func (r *Runner) prepare(ctx context.Context, l *Loaded) error {
	if r.locks != nil {
		if err := r.locks.Add(l.Listeners()); err != nil {
			return err
		}
	}
	var ours []socket
	if now := r.loaded.Load(); now != nil {
		ours = now.sockets()
	}
	var faults Faults
	for _, s := range l.sockets() {
		if overlaps(ours, s) {
			continue
		}
		err := listenlock.Probe(ctx, s.network, s.addr)
		var taken *listenlock.Taken
		if !errors.As(err, &taken) {
			continue
		}
		f := &Fault{File: s.place.file, Line: s.place.line, Text: err.Error(), Hint: taken.Hint(), Err: taken}
		if s.what != "" {
			f.Text = s.what + ": " + f.Text
		}
		faults = append(faults, f)
	}
	if faults == nil {
		return nil
	}
	if now := r.loaded.Load(); now != nil && r.locks != nil {
		r.locks.Keep(now.Listeners())
	}
	return faults
}

// overlaps says whether we have a socket ourselves that would make the probe fail.
func overlaps(ours []socket, s socket) bool {
	for _, o := range ours {
		if o.network == s.network && o.addr.Port() == s.addr.Port() &&
			(o.addr == s.addr || o.addr.Addr().IsUnspecified() || s.addr.Addr().IsUnspecified()) {
			return true
		}
	}
	return false
}
