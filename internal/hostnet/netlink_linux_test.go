package hostnet

import (
	"context"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// A new address of loopback is seen through the kernel's report, long before the next
// listing. As another user the subscription alone is tried.
func TestKernelReports(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	first := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- subscribe(ctx, func() {
			select {
			case first <- struct{}{}:
			default:
			}
		})
	}()
	<-first
	stop()
	if err := <-ended; err != nil {
		t.Fatalf("subscribe: %v", err)
	}

	if os.Geteuid() != 0 {
		return
	}
	f, err := Follow(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	a, err := netlink.ParseAddr("192.0.2.200/32")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(lo, a); err != nil {
		t.Logf("cannot add an address here: %v", err)
		return
	}
	defer netlink.AddrDel(lo, a) // where the test ends before it does
	has := func(want bool) {
		t.Helper()
		for end := time.Now().Add(3 * time.Second); f.Has(netip.MustParseAddr("192.0.2.200")) != want; {
			if time.Now().After(end) {
				t.Fatalf("Has = %t after 3 s, want %t", !want, want)
			}
			<-time.After(5 * time.Millisecond)
		}
	}
	has(true)
	if err := netlink.AddrDel(lo, a); err != nil {
		t.Fatal(err)
	}
	has(false)
}
