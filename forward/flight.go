package forward

import (
	"bytes"
	"context"
	"errors"
	"hash/maphash"
	"sync"
)

// flightShards is how many locks share the flights.
const flightShards = 64

// flights are the queries under way, so that an identical one waits for the first one's
// outcome: with n of them at the upstream a forger would have n chances with each guess
// (CVE-2023-30464).
type flights struct {
	seed   maphash.Seed
	shards [flightShards]struct {
		mu  sync.Mutex // guards all
		all map[uint64]*flight
	}
}

// flight is one query under way.
type flight struct {
	wire       []byte // of the query; valid while it is under way
	tcp        bool
	passengers []*passenger
}

// passenger is a query that waits for a flight. The leader writes err and the outcome in
// job before it sends on done.
type passenger struct {
	job  *job
	err  error
	done chan struct{} // 1 slot
}

func newFlights() *flights {
	f := &flights{seed: maphash.MakeSeed()}
	for i := range f.shards {
		f.shards[i].all = map[uint64]*flight{}
	}
	return f
}

// join makes the caller the leader of a new flight, or a passenger of one under way. Both
// are nil where another query has the same hash: it flies alone.
func (f *flights) join(j *job) (key uint64, led *flight, own *passenger) {
	key = maphash.Bytes(f.seed, j.wire[2:]) // without its id
	if j.tcp {
		key = ^key
	}
	s := &f.shards[key%flightShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	under, ok := s.all[key]
	switch {
	case !ok:
		led = &flight{wire: j.wire, tcp: j.tcp}
		s.all[key] = led
		return key, led, nil
	case under.tcp == j.tcp && bytes.Equal(under.wire[2:], j.wire[2:]):
		own = &passenger{job: j, done: make(chan struct{}, 1)}
		under.passengers = append(under.passengers, own)
		return key, nil, own
	}
	return key, nil, nil
}

// begin makes led a flight under way, and says no where another one has its place.
func (f *flights) begin(led *flight) (key uint64, ok bool) {
	key = maphash.Bytes(f.seed, led.wire[2:])
	s := &f.shards[key%flightShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.all[key]; taken {
		return key, false
	}
	s.all[key] = led
	return key, true
}

// land ends a flight and gives its outcome to all who follow.
func (f *flights) land(key uint64, led *flight, j *job, err error) {
	s := &f.shards[key%flightShards]
	s.mu.Lock()
	delete(s.all, key)
	passengers := led.passengers
	s.mu.Unlock()
	for _, w := range passengers {
		// Each gets memory of its own; a message is unpacked anew.
		w.err = err
		w.job.from, w.job.got.layout = j.from, j.got.layout
		w.job.got.wire = append(w.job.into[:0], j.got.wire...)
		w.done <- struct{}{}
	}
}

// quit takes a passenger out whose client went away. Its memory is its own again.
func (f *flights) quit(key uint64, own *passenger) {
	s := &f.shards[key%flightShards]
	s.mu.Lock()
	if under, ok := s.all[key]; ok {
		for i, w := range under.passengers {
			if w == own {
				last := len(under.passengers) - 1
				under.passengers[i] = under.passengers[last]
				under.passengers = under.passengers[:last]
				s.mu.Unlock()
				return
			}
		}
	}
	s.mu.Unlock()
	<-own.done // it has landed
}

// share asks the upstreams, or waits for an identical query that is under way.
func (p *Pool) share(ctx context.Context, j *job) error {
	for {
		ups, free, err := p.candidates(j.refuse)
		if err != nil {
			return &Failure{Err: err}
		}
		if !free {
			// Others may ask whom this one must not.
			return p.lead(ctx, j, ups)
		}
		key, led, own := p.flights.join(j)
		switch {
		case led != nil:
			return p.fly(ctx, j, ups, key, led)
		case own == nil:
			return p.lead(ctx, j, ups)
		}
		p.o.Observer.Shared()
		select {
		case <-own.done:
		case <-ctx.Done():
			p.flights.quit(key, own)
			return &Failure{Err: ctx.Err()}
		}
		if own.err == nil || ctx.Err() != nil || !errors.Is(own.err, context.Canceled) {
			return own.err
		}
		// The leader's client went away, ours did not.
	}
}

// fly leads a flight, and lands it whatever happens.
func (p *Pool) fly(ctx context.Context, j *job, ups []*upstream, key uint64, led *flight) (err error) {
	err = &Failure{Err: context.Canceled} // for those who follow a panic
	defer func() {
		told := err
		if err != nil && ctx.Err() != nil {
			told = &Failure{Err: context.Canceled}
		}
		p.flights.land(key, led, j, told)
	}()
	err = p.lead(ctx, j, ups)
	return err
}
