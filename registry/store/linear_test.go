package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/resolverd/resolverd/registry"
)

// The history of compare-and-set commits on a few keys, by many clients at once, must be
// one that a single register for each key could have given.
type casIn struct {
	key  int
	from uint64 // guard
}

type casOut struct {
	ok  bool
	rev uint64 // of the write
}

func TestCommitsAreLinearizable(t *testing.T) {
	s := open(t)
	const keys, clients, each = 3, 12, 150
	var known [keys]atomic.Uint64
	var mu sync.Mutex
	var ops []porcupine.Operation
	var wg sync.WaitGroup
	start := time.Now()
	for c := range clients {
		wg.Go(func() {
			for i := range each {
				in := casIn{key: (c + i) % keys}
				in.from = known[in.key].Load()
				ch := put("n", fmt.Sprint("cas", in.key), fmt.Sprint(c, i))
				ch.Guards = []registry.Guard{{Key: registry.InstanceRecordKey("n", fmt.Sprint("cas", in.key)), Modified: in.from}}
				// What else is written in the same change shares its fate.
				ch.Puts = append(ch.Puts, put("n", fmt.Sprint("own", c, "-", i), "x").Puts...)
				op := porcupine.Operation{ClientId: c, Input: in, Call: int64(time.Since(start))}
				rev, err := s.Commit(context.Background(), ch)
				op.Return = int64(time.Since(start))
				if err != nil && !errors.Is(err, registry.ErrConflict) {
					t.Error(err)
					return
				}
				op.Output = casOut{ok: err == nil, rev: rev}
				if err == nil {
					for was := known[in.key].Load(); was < rev && !known[in.key].CompareAndSwap(was, rev); was = known[in.key].Load() {
					}
				}
				mu.Lock()
				ops = append(ops, op)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	model := porcupine.Model{
		Partition: func(h []porcupine.Operation) [][]porcupine.Operation {
			out := make([][]porcupine.Operation, keys)
			for _, o := range h {
				k := o.Input.(casIn).key
				out[k] = append(out[k], o)
			}
			return out
		},
		Init: func() any { return uint64(0) },
		Step: func(state, input, output any) (bool, any) {
			now, in, out := state.(uint64), input.(casIn), output.(casOut)
			if !out.ok {
				return now != in.from, now
			}
			return now == in.from && out.rev > now, out.rev
		},
	}
	won := 0
	for _, o := range ops {
		if o.Output.(casOut).ok {
			won++
		}
	}
	if !porcupine.CheckOperations(model, ops) {
		t.Fatal("the history is not linearizable")
	}
	if won == 0 || won == len(ops) {
		t.Errorf("%d of %d won: nothing was contended", won, len(ops))
	}
	last := uint64(0)
	for k := range known {
		last = max(last, known[k].Load())
	}
	got, _ := follow(t, s, 0, last)
	if n := len(got) - keys; n != won {
		t.Errorf("%d commits were acknowledged, %d are there", won, n)
	}
}
