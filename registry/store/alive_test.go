package store

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/resolverd/resolverd/registry"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestLeaseIsRenewedAndTakenAnew holds a key for longer than its lease, takes the lease
// away, and sees the key come back.
func TestLeaseIsRenewedAndTakenAnew(t *testing.T) {
	t.Parallel() // it mostly waits
	s := openHere(t, Config{})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	events := make(chan bool, 100) // true: put, false: gone
	wg.Go(func() {
		s.Follow(ctx, 0, func(b registry.Batch) error {
			for _, r := range b.Records {
				if r.Key.Kind == registry.KindAlive {
					events <- !r.Deleted()
				}
			}
			return nil
		})
	})
	wg.Go(func() {
		if err := s.keepAlive(ctx, "n", 2*time.Second); err != nil {
			t.Error(err)
		}
	})
	defer func() { cancel(); wg.Wait() }()
	next := func(want bool) {
		t.Helper()
		select {
		case got := <-events:
			if got != want {
				t.Fatalf("key put: %v, want %v", got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("nothing happened")
		}
	}
	next(true)
	select {
	case put := <-events:
		t.Fatalf("a lease of 2 s was not renewed: key put: %v", put)
	case <-time.After(5 * time.Second):
	}
	res, err := s.client.Get(ctx, registry.AliveKey("n").String())
	if err != nil || len(res.Kvs) != 1 {
		t.Fatal(res, err)
	}
	if _, err := s.client.Revoke(ctx, clientv3.LeaseID(res.Kvs[0].Lease)); err != nil {
		t.Fatal(err)
	}
	next(false)
	next(true)
}
