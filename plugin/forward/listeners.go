package forward

import (
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/coredns/caddy"
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
func listenersOf(config *dnsserver.Config) (listeners, error) {
	var l listeners
	switch config.Transport {
	case transport.DNS, "":
		l.transport = engine.Plain
	case transport.TLS:
		l.transport = engine.TLS
	case transport.HTTPS:
		l.transport = engine.HTTPS
	case transport.QUIC:
		l.transport = engine.QUIC
	default:
		return l, nil
	}
	host, err := resident.Get("hostnet", "addresses", func() (*hostnet.Follower, error) {
		return hostnet.Follow(slog.Default())
	})
	if err != nil {
		return l, fmt.Errorf("addresses of this host: %w", err)
	}
	l.Listeners = hostnet.NewListeners(config.Port, config.ListenHosts, host)
	return l, nil
}

// leadsBack says whether a query to e would come back to the block.
func (l listeners) leadsBack(e engine.Endpoint) bool {
	return e.Transport == l.transport && l.Has(e.Addr)
}

// registry knows the listeners of all blocks that forward. What a resolv.conf names of
// them is ourselves. (An upstream that is written out may well be another block of
// ours: only its own block would be a loop.)
type registry struct {
	mu     sync.RWMutex // guards blocks
	blocks map[*dnsserver.Config]block
}

type block struct {
	listeners
	load caddy.Context // of the Corefile that the block belongs to
}

var known = &registry{blocks: map[*dnsserver.Config]block{}}

func (r *registry) add(load caddy.Context, config *dnsserver.Config, l listeners) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blocks[config] = block{listeners: l, load: load}
}

func (r *registry) remove(config *dnsserver.Config) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.blocks, config)
}

// keep drops the blocks of other Corefiles than load's: a newer one was refused.
func (r *registry) keep(load caddy.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for config, b := range r.blocks {
		if b.load != load {
			delete(r.blocks, config)
		}
	}
}

// has says whether some block listens for plain DNS on the address and port.
func (r *registry) has(a netip.AddrPort) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, b := range r.blocks {
		if b.transport == engine.Plain && b.Has(a) {
			return true
		}
	}
	return false
}
