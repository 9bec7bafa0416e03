package hostnet

import (
	"context"
	"fmt"
	"sync"

	"github.com/vishvananda/netlink"
)

// subscribe calls changed after each change of an address of this network namespace,
// until ctx ends or the subscription breaks (the kernel drops reports that are not
// read in time); then it returns, and the caller comes again.
func subscribe(ctx context.Context, changed func()) error {
	var (
		mu     sync.Mutex // guards broken
		broken error
	)
	reports := make(chan netlink.AddrUpdate)
	done := make(chan struct{})
	err := netlink.AddrSubscribeWithOptions(reports, done, netlink.AddrSubscribeOptions{
		ErrorCallback: func(err error) {
			mu.Lock()
			defer mu.Unlock()
			if broken == nil {
				broken = err
			}
		},
	})
	if err != nil {
		return fmt.Errorf("hostnet: subscribe: %w", err)
	}
	// What changed between the last listing and the subscription.
	changed()
	defer func() {
		close(done)
		for range reports {
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-reports:
			if !ok {
				mu.Lock()
				defer mu.Unlock()
				return fmt.Errorf("hostnet: subscription ended: %w", broken)
			}
			changed()
		}
	}
}
