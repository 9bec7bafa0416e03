package relay

import (
	"context"
	"time"
)

// Await waits until every follower that is connected and up to date has acknowledged the
// revision, at most so long; one that takes longer is not waited for again before it is
// up to date. It reports whether they all have; true where there are none.
func (h *Hub) Await(ctx context.Context, revision uint64, most time.Duration) bool {
	var late *time.Timer
	for {
		h.mu.Lock()
		behind, acked := false, h.acked
		for p := range h.followers {
			behind = behind || p.live.Load() && p.acked.Load() < revision
		}
		h.mu.Unlock()
		if !behind {
			return true
		}
		if late == nil {
			late = time.NewTimer(most)
			defer late.Stop()
		}
		select {
		case <-acked:
		case <-late.C:
			h.giveUp(revision)
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// heard tells those who wait that a follower has acknowledged something, or has gone.
func (h *Hub) heard() {
	h.mu.Lock()
	close(h.acked)
	h.acked = make(chan struct{})
	h.mu.Unlock()
}

func (h *Hub) giveUp(revision uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for p := range h.followers {
		if p.acked.Load() < revision {
			p.live.Store(false)
		}
	}
}
