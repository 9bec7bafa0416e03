package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/store"
)

// TestCloseUnderWay closes a store that is written and followed. Each writer has a clear
// answer, and what it was told is written is there.
func TestCloseUnderWay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s, err := store.Open(context.Background(), store.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		err := s.Follow(context.Background(), 0, func(registry.Batch) error { return nil })
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("follow: %v", err)
		}
	})
	wg.Go(func() {
		if err := s.KeepAlive(context.Background(), "n", store.MinTTL); !errors.Is(err, store.ErrClosed) {
			t.Errorf("keep alive: %v", err)
		}
	})
	var mu sync.Mutex
	acked := map[string]bool{}
	enough := make(chan struct{})
	var once sync.Once
	for w := range 32 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprint(w, "-", i)
				_, err := s.Commit(context.Background(), put("n", id, "x"))
				if errors.Is(err, store.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acked["n/"+id] = true
				if len(acked) > 2000 {
					once.Do(func() { close(enough) })
				}
				mu.Unlock()
			}
		})
	}
	<-enough
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	s = open(t, func(c *store.Config) { c.Dir = dir })
	got, _ := follow(t, s, 0, 1)
	for id := range acked {
		if _, ok := got[id]; !ok {
			t.Errorf("%s was acknowledged and is not there", id)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Follow(ctx, 0, func(registry.Batch) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("follow with an ended context: %v", err)
	}
}
