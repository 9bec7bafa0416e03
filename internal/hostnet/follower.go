package hostnet

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// resync is how often the addresses are listed without a hint: reports may be lost,
	// and where there are none this is how changes are seen.
	resync = 10 * time.Second
	// settle is how long a burst of reports may take.
	settle = 20 * time.Millisecond
	// maxAddresses bounds the set.
	maxAddresses = 1 << 16
)

// set is immutable once published.
type set map[netip.Addr]struct{}

// Follower holds the current addresses of the host. It is safe for concurrent use.
type Follower struct {
	current atomic.Pointer[set]
	log     *slog.Logger
	stop    context.CancelFunc
	work    sync.WaitGroup
	list    func() ([]netip.Addr, error)
}

// Follow reads the addresses and follows them until Close. The error is that of the
// first reading. log may be nil.
func Follow(log *slog.Logger) (*Follower, error) {
	return start(log, listAddresses, subscribe)
}

// start is Follow with the system replaced: watch calls its function after each change
// until the context ends, or returns an error at once where it cannot.
func start(log *slog.Logger, list func() ([]netip.Addr, error), watch func(context.Context, func()) error) (*Follower, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f := &Follower{log: log, list: list}
	if err := f.read(); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	hints := make(chan struct{}, 1)
	f.work.Go(func() {
		for ctx.Err() == nil {
			err := watch(ctx, func() {
				select {
				case hints <- struct{}{}:
				default:
				}
			})
			if err != nil && ctx.Err() == nil {
				f.log.Debug("address changes are not reported, reading them at intervals", "error", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(resync):
			}
		}
	})
	f.work.Go(func() { f.run(ctx, hints) })
	return f, nil
}

func (f *Follower) run(ctx context.Context, hints <-chan struct{}) {
	tick := time.NewTicker(resync)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-hints:
			select {
			case <-ctx.Done():
				return
			case <-time.After(settle):
			}
		}
		if err := f.read(); err != nil {
			f.log.Warn("cannot list the host's addresses, the last set is kept", "error", err)
		}
	}
}

// read lists the addresses and publishes them.
func (f *Follower) read() error {
	all, err := f.list()
	if err != nil {
		return fmt.Errorf("hostnet: list addresses: %w", err)
	}
	next := make(set, len(all))
	for _, a := range all {
		if len(next) < maxAddresses {
			next[a.Unmap().WithZone("")] = struct{}{}
		}
	}
	f.current.Store(&next)
	return nil
}

// Has says whether a is an address of this host: one of an interface, or a loopback
// address, all of which are the host's whether an interface bears them or not. An IPv6
// zone is not looked at.
func (f *Follower) Has(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if a.IsLoopback() {
		return true
	}
	_, ok := (*f.current.Load())[a]
	return ok
}

// Addresses returns the current addresses of interfaces, sorted, without zones. The
// slice is the caller's.
func (f *Follower) Addresses() []netip.Addr {
	now := *f.current.Load()
	out := make([]netip.Addr, 0, len(now))
	for a := range now {
		out = append(out, a)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// Close ends the following and waits for it. The last set stays readable.
func (f *Follower) Close() error {
	f.stop()
	f.work.Wait()
	return nil
}

// listAddresses asks the system.
func listAddresses() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	out := make([]netip.Addr, 0, len(all))
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(n.IP); ok {
				out = append(out, addr)
			}
		}
	}
	return out, nil
}
