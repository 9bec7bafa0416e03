package forward

import (
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin/pkg/transport"

	engine "github.com/resolverd/resolverd/forward"
	"github.com/resolverd/resolverd/internal/hostnet"
	"github.com/resolverd/resolverd/internal/resident"
)

// listeners are the addresses that one server block listens on, and for what.
type listeners struct {
	transport engine.Transport
	hostnet.Listeners
}

// listenersOf returns the listeners of a block, after its bind directive was parsed.
func listenersOf(config *dnsserver.Config, host *hostnet.Follower) listeners {
	l := listeners{transport: listenersTransport(config)}
	if l.transport != unknownTransport {
		l.Listeners = hostnet.NewListeners(config.Port, config.ListenHosts, host)
	}
	return l
}

// unknownTransport is what no upstream is spoken to over.
const unknownTransport engine.Transport = 255

// listenersTransport returns what a block's clients speak.
func listenersTransport(config *dnsserver.Config) engine.Transport {
	switch config.Transport {
	case transport.DNS, "":
		return engine.Plain
	case transport.TLS:
		return engine.TLS
	case transport.HTTPS:
		return engine.HTTPS
	case transport.QUIC:
		return engine.QUIC
	}
	return unknownTransport
}

// addresses returns the follower of this host's addresses, one in the process.
func addresses() (*hostnet.Follower, error) {
	host, err := resident.Get("hostnet", "addresses", func() (*hostnet.Follower, error) {
		return hostnet.Follow(slog.Default())
	})
	if err != nil {
		return nil, fmt.Errorf("addresses of this host: %w", err)
	}
	return host, nil
}

// leadsBack says whether a query to e would come back to the block.
func (l listeners) leadsBack(e engine.Endpoint) bool {
	return e.Transport == l.transport && l.Has(e.Addr)
}

// ofProcess says whether some listener of this process is at the address, by what the
// Corefile's loader provides; without a loader none is known. What a resolv.conf names
// of them is ourselves. (An upstream that is written out may well be another block of
// ours: only its own block would be a loop.)
func ofProcess(host *hostnet.Follower) func(netip.AddrPort) bool {
	return func(a netip.AddrPort) bool {
		all, ok := resident.Provided[func() []netip.AddrPort]("listeners")
		if !ok {
			return false
		}
		addr := a.Addr().Unmap().WithZone("")
		for _, l := range all() {
			if l.Port() == a.Port() && (l.Addr().Unmap().WithZone("") == addr || l.Addr().IsUnspecified() && host.Has(addr)) {
				return true
			}
		}
		return false
	}
}
