// Package catalogtest has a store in memory, for tests of what stands on a catalogue. It
// keeps the rules of the real one: guards, one revision a write, history.
package catalogtest

import (
	"context"
	"slices"
	"sync"

	"github.com/resolverd/resolverd/registry"
)

// Store is a catalog.Store that feeds a view. The zero Store is not usable: see New.
type Store struct {
	View *registry.View
	// Before, where it is set, is called before each commit, and its error returned.
	Before func(registry.Change) error

	mu      sync.Mutex // guards what follows
	rev     uint64
	records map[registry.Key]registry.Record
	events  []registry.Event
	commits int
	held    bool
	late    []registry.Batch // not shown to the view yet
}

// New returns an empty store with a loaded view.
func New() *Store {
	s := &Store{View: registry.NewView(), rev: 1, records: map[registry.Key]registry.Record{}}
	if err := s.View.Apply(registry.Batch{Revision: 1, Whole: true}); err != nil {
		panic(err)
	}
	return s
}

// Commit implements catalog.Store.
func (s *Store) Commit(ctx context.Context, c registry.Change) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if s.Before != nil {
		if err := s.Before(c); err != nil {
			return 0, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range c.Guards {
		if s.records[g.Key].Modified != g.Modified {
			return 0, registry.ErrConflict
		}
	}
	s.rev++
	s.commits++
	b := registry.Batch{Revision: s.rev}
	for _, r := range c.Puts {
		r.Modified, r.Created = s.rev, s.rev
		if had, ok := s.records[r.Key]; ok {
			r.Created = had.Created
		}
		s.records[r.Key] = r
		b.Records = append(b.Records, r)
	}
	for _, k := range c.Deletes {
		if _, ok := s.records[k]; ok {
			delete(s.records, k)
			b.Records = append(b.Records, registry.Record{Key: k, Modified: s.rev})
		}
	}
	for _, e := range c.Events {
		e.Revision = s.rev
		s.events = append(s.events, e)
	}
	if s.held {
		s.late = append(s.late, b)
		return s.rev, nil
	}
	return s.rev, s.View.Apply(b)
}

// History implements catalog.Store.
func (s *Store) History(_ context.Context, q registry.HistoryQuery) ([]registry.Event, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []registry.Event
	for _, e := range slices.Backward(s.events) {
		if q.Matches(e) && len(out) < q.Max() {
			out = append(out, e)
		}
	}
	return out, nil
}

// Commits returns how many writes there were.
func (s *Store) Commits() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commits
}

// Hold keeps further writes from the view until Release.
func (s *Store) Hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = true
}

// Release shows the view what was held.
func (s *Store) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = false
	for _, b := range s.late {
		if err := s.View.Apply(b); err != nil {
			panic(err)
		}
	}
	s.late = nil
}

// Keys returns what is stored, in order.
func (s *Store) Keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for k := range s.records {
		out = append(out, k.String())
	}
	slices.Sort(out)
	return out
}
