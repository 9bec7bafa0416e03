package hostnet

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestThisHost(t *testing.T) {
	f, err := Follow(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, a := range f.Addresses() {
		if !f.Has(a) {
			t.Errorf("Has(%s) = false for an address of this host", a)
		}
	}
	for s, want := range map[string]bool{
		"127.0.0.1": true, "127.9.9.9": true, "::1": true, "::ffff:127.0.0.1": true,
		"192.0.2.77": false, "2001:db8::77": false,
	} {
		if got := f.Has(addr(s)); got != want {
			t.Errorf("Has(%s) = %t, want %t", s, got, want)
		}
	}
}

func TestChangesAreFollowed(t *testing.T) {
	tests := []struct {
		name   string
		report bool          // the system reports changes
		within time.Duration // how long the change may take to be seen
	}{
		{"reported", true, settle + time.Millisecond},
		{"not reported", false, resync + time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var now atomic.Pointer[[]netip.Addr]
				now.Store(&[]netip.Addr{addr("192.0.2.1"), addr("fe80::1%eth0")})
				changed := make(chan struct{})
				watch := func(ctx context.Context, f func()) error {
					if !tt.report {
						return errors.New("no netlink here")
					}
					for {
						select {
						case <-ctx.Done():
							return nil
						case <-changed:
							f()
						}
					}
				}
				f, err := start(nil, func() ([]netip.Addr, error) { return *now.Load(), nil }, watch)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if !f.Has(addr("192.0.2.1")) || !f.Has(addr("fe80::1")) || !f.Has(addr("fe80::1%eth1")) {
					t.Fatalf("first set lacks an address: %v", f.Addresses())
				}
				now.Store(&[]netip.Addr{addr("192.0.2.2")})
				if tt.report {
					changed <- struct{}{}
				}
				time.Sleep(tt.within)
				synctest.Wait()
				if diff := cmp.Diff([]netip.Addr{addr("192.0.2.2")}, f.Addresses(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
					t.Errorf("addresses (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestLastSetSurvivesAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fail atomic.Bool
		f, err := start(nil, func() ([]netip.Addr, error) {
			if fail.Load() {
				return nil, errors.New("out of sockets")
			}
			return []netip.Addr{addr("192.0.2.1")}, nil
		}, func(ctx context.Context, _ func()) error { <-ctx.Done(); return nil })
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fail.Store(true)
		time.Sleep(2 * resync)
		synctest.Wait()
		if !f.Has(addr("192.0.2.1")) {
			t.Error("the last good set was dropped")
		}
	})
}

func TestFirstErrorIsReturned(t *testing.T) {
	want := errors.New("no /proc")
	_, err := start(nil, func() ([]netip.Addr, error) { return nil, want }, nil)
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}
