package cache

import (
	"context"
	"errors"

	"github.com/miekg/dns"
)

// Outcome is what a fetch brought home.
type Outcome struct {
	// Entry is where the response was stored, or nil.
	Entry *Entry
	// Msg is a response that was not stored, or nil. It is shared by all who waited: copy
	// before changing it.
	Msg *dns.Msg
	// EDE are the Extended DNS Errors that came with Msg.
	EDE []EDE
	// Rcode and Err are what the fetch returned where it wrote no response.
	Rcode int
	Err   error
	// Variant is the variant that a truncated Msg was fetched for.
	Variant string
	// Retry says that there is no outcome, and that whoever waited is to look again.
	Retry bool
}

// errLost is the outcome of a fetch whose owner vanished in a panic.
var errLost = errors.New("cache: the fetch ended without an outcome")

// Flight is one fetch under way and those who wait for it.
type Flight struct {
	c    *Cache
	s    *shard
	key  string
	done chan struct{}
	out  Outcome // written before done is closed
	// Epoch is what the cache's epoch read when the fetch began, for [Storage].
	Epoch uint64
}

// Join returns the fetch under way for the key and false, or a new one and true: then the
// caller must fetch and call Finish, and defer Abort against a panic. Where too many are
// under way it returns nil and true: the caller fetches for itself. variant tells apart
// fetches of one key whose responses are of no use to each other; it is "" but after a
// truncated one.
func (c *Cache) Join(key []byte, variant string) (*Flight, bool) {
	s, _ := c.at(key)
	k := string(key) + variant
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.flights[k]; f != nil {
		return f, false
	}
	c.fetches.Add(1)
	if c.flying.Add(1) > maxFlights {
		c.flying.Add(-1)
		return nil, true
	}
	f := &Flight{c: c, s: s, key: k, done: make(chan struct{}), out: Outcome{Rcode: dns.RcodeServerFailure, Err: errLost}, Epoch: c.epoch.Load()}
	s.flights[k] = f
	return f, true
}

// Finish ends the flight with the outcome and wakes those who wait. Only the first call
// of Finish or Abort counts; both accept a nil Flight.
func (f *Flight) Finish(out Outcome) {
	if f == nil || !f.leave() {
		return
	}
	f.out = out
	close(f.done)
}

// Abort ends the flight as failed where Finish was not called: to be deferred.
func (f *Flight) Abort() {
	if f == nil || !f.leave() {
		return
	}
	close(f.done)
}

// leave takes the flight out of the table and says whether it was still flying.
func (f *Flight) leave() bool {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	if f.c == nil {
		return false
	}
	if f.s.flights[f.key] == f {
		delete(f.s.flights, f.key)
	}
	f.c.flying.Add(-1)
	f.c = nil
	return true
}

// Wait returns the outcome of another's fetch, or the context's error.
func (f *Flight) Wait(ctx context.Context) (Outcome, error) {
	select {
	case <-f.done:
		return f.out, nil
	case <-ctx.Done():
		return Outcome{}, ctx.Err()
	}
}

// Shared counts a query that was answered by another's fetch.
func (c *Cache) Shared() { c.shared.Add(1) }

// Refreshing counts a fetch of what is already stored: a prefetch, or one for stale data.
func (c *Cache) Refreshing() { c.refreshes.Add(1) }
