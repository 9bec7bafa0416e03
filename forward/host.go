package forward

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
)

const (
	// leastHostTTL and mostHostTTL bound how long a host name's addresses are believed.
	leastHostTTL = 5 * time.Second
	mostHostTTL  = time.Hour
	// mostHostPause bounds the pause after failed look-ups in a row.
	mostHostPause = 5 * time.Minute
	// MaxHostAddrs bounds the addresses taken from one host name.
	MaxHostAddrs = 16
)

// hostPause returns when a host name is looked up next: when its TTL is over, or after a
// pause that grows with the failures in a row.
func hostPause(ttl time.Duration, failures int) time.Duration {
	if failures == 0 {
		return min(max(ttl, leastHostTTL), mostHostTTL)
	}
	return min(leastHostTTL<<min(failures-1, 10), mostHostPause)
}

// SortAddrs puts addresses into the order and number in which a host name's are used.
func SortAddrs(addrs []netip.Addr) []netip.Addr {
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	addrs = slices.Compact(addrs)
	return addrs[:min(len(addrs), MaxHostAddrs)]
}

// at returns the source's endpoint at an address.
func (s Source) at(a netip.Addr) Endpoint {
	e := s.Endpoint
	e.Addr = netip.AddrPortFrom(a, e.Addr.Port())
	return e
}

// followHost looks a host name up when its addresses are due, until the pool is closed.
func (p *Pool) followHost(host string, known []netip.Addr) {
	// How long what was found at setup holds is not known.
	pause := time.NewTimer(leastHostTTL)
	defer pause.Stop()
	failures := 0
	for {
		select {
		case <-p.life.Done():
			return
		case <-pause.C:
		}
		found, ttl, err := p.lookup(p.life, host, known)
		if p.life.Err() != nil {
			return
		}
		if err != nil {
			if failures++; failures == 1 {
				p.o.Log.Warn("host name cannot be looked up, the last addresses are kept", "pool", p.o.Name, "host", host, "kept", len(known), "error", err)
			}
			pause.Reset(hostPause(0, failures))
			continue
		}
		failures = 0
		if !slices.Equal(found, known) {
			known = found
			p.mu.Lock()
			p.hosts[host] = found
			p.install()
			p.mu.Unlock()
		}
		pause.Reset(hostPause(ttl, 0))
	}
}

// lookup asks the bootstrap upstreams for a host name's addresses and how long they
// hold. Of a family that cannot be had the known ones stay. No address at all is an
// error.
func (p *Pool) lookup(ctx context.Context, host string, known []netip.Addr) ([]netip.Addr, time.Duration, error) {
	var (
		found []netip.Addr
		ttl   = mostHostTTL
		errs  []error
	)
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		m, err := p.ask(ctx, host, qtype)
		if err != nil {
			errs = append(errs, err)
			for _, a := range known {
				if a.Is4() == (qtype == dns.TypeA) {
					found = append(found, a)
				}
			}
			continue
		}
		for _, rr := range m.Answer {
			ttl = min(ttl, time.Duration(rr.Header().Ttl)*time.Second)
			var a netip.Addr
			switch rr := rr.(type) {
			case *dns.A:
				a, _ = netip.AddrFromSlice(rr.A)
			case *dns.AAAA:
				a, _ = netip.AddrFromSlice(rr.AAAA)
			}
			if a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() {
				found = append(found, a.Unmap())
			}
		}
	}
	if len(errs) == 2 {
		return nil, 0, errors.Join(errs...)
	}
	if len(found) == 0 {
		return nil, 0, fmt.Errorf("forward: %s has no address", host)
	}
	if len(errs) > 0 {
		ttl = leastHostTTL
	}
	return SortAddrs(found), ttl, nil
}

// ask asks the bootstrap upstreams one question, to which NXDOMAIN is a failure.
func (p *Pool) ask(ctx context.Context, host string, qtype uint16) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(host, qtype)
	if p.o.resolve != nil {
		return p.o.resolve(ctx, m)
	}
	resp, err := p.boot.Exchange(ctx, Query{Msg: m})
	if err != nil {
		return nil, err
	}
	if resp.Msg.Rcode != dns.RcodeSuccess {
		return nil, fmt.Errorf("forward: look up %s: %s", host, dns.RcodeToString[resp.Msg.Rcode])
	}
	return resp.Msg, nil
}
