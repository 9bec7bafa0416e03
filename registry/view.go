package registry

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Epoch counts the changes of what an answer was made from. See internal/answer.
type Epoch = atomic.Uint64

// ErrConflict is returned by a store when a guard of a change did not hold.
var ErrConflict = errors.New("registry: the record was changed meanwhile")

// View is the registry in memory, kept current by one writer and read by anybody. A
// read takes no lock: it loads a pointer to an immutable Snapshot.
//
// A reader that wants to repeat what it read notes the epoch first, then reads the
// snapshot: the writer swaps the snapshot first and raises the epochs after.
type View struct {
	current atomic.Pointer[Snapshot]
	loaded  atomic.Bool
	heard   atomic.Int64 // unix nanoseconds of the last word from the store

	// Names is raised when a service, node or role appears or vanishes: the epoch of
	// every "no such name". Addrs likewise for addresses.
	Names, Addrs Epoch

	mu    sync.Mutex // guards the writer's side: tables
	table *table
	bells bells
}

// NewView returns an empty view, not loaded.
func NewView() *View {
	v := &View{table: newTable()}
	v.current.Store(&Snapshot{})
	return v
}

// Load returns the current snapshot; never nil.
func (v *View) Load() *Snapshot { return v.current.Load() }

// Loaded reports whether the view has been filled once, from disk or from the store.
func (v *View) Loaded() bool { return v.loaded.Load() }

// Heard notes that the store was in touch at t, with or without news.
func (v *View) Heard(t time.Time) { v.heard.Store(t.UnixNano()) }

// Age returns how long ago the store was last heard of, or false where it never was in
// this process: the view then shows what the disk held.
func (v *View) Age(now time.Time) (time.Duration, bool) {
	h := v.heard.Load()
	if h == 0 {
		return 0, false
	}
	return max(0, now.Sub(time.Unix(0, h))), true
}

// Listen returns a channel that is closed at the next change of the topic, and a
// function that ends the waiting; call it in any case. Listen first, then look: a
// change in between is not lost.
func (v *View) Listen(t Topic) (<-chan struct{}, func()) {
	t.Name = Fold(t.Name)
	return v.bells.listen(t)
}

// Apply brings the view to the batch's revision. A record that cannot be read is left
// out and its error joined to the result; the rest is applied. A batch older than the
// view is ignored, unless it is whole.
func (v *View) Apply(b Batch) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	old := v.current.Load()
	if !b.Whole && v.loaded.Load() && b.Revision <= old.Revision {
		return nil
	}
	next, effects, err := v.table.apply(old, b)
	v.current.Store(next)
	v.loaded.Store(true)
	for _, e := range effects.epochs {
		e.Add(1)
	}
	if effects.names {
		v.Names.Add(1)
	}
	if effects.addrs {
		v.Addrs.Add(1)
	}
	v.bells.ring(effects.topics)
	return err
}

// Records returns the whole registry as records, in no order, with the revision that
// they show: what a whole batch for another view consists of.
func (v *View) Records() Batch {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.current.Load()
	b := Batch{Revision: now.Revision, Serial: now.Serial, Whole: true, Records: make([]Record, 0, len(v.table.raw))}
	for _, r := range v.table.raw {
		b.Records = append(b.Records, r)
	}
	return b
}
