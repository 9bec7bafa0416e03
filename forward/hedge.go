package forward

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

const (
	// hedgeBurst is how many hedges may be sent at once after a quiet time.
	hedgeBurst = 10
	// leastHedge and mostHedge bound how long a reply is waited for before a second
	// upstream is asked.
	leastHedge = time.Millisecond
	mostHedge  = time.Second
)

// hedge decides when a second upstream is asked while the first still may answer: after
// the time that 95 of 100 replies take, and as long as hedges stay below a share of the
// queries. It has no clock.
type hedge struct {
	share  float64       // hedges for each query
	tokens float64       // hedges that may be sent now
	p95    time.Duration // 0 before the first reply
}

// query takes note of a query, and returns how long its first upstream has; 0 means that
// there is no hedge.
func (h *hedge) query() time.Duration {
	h.tokens = min(h.tokens+h.share, hedgeBurst)
	if h.p95 == 0 || h.tokens < 1 {
		return 0
	}
	return min(max(h.p95, leastHedge), mostHedge)
}

// take says whether a hedge may be sent.
func (h *hedge) take() bool {
	if h.tokens < 1 {
		return false
	}
	h.tokens--
	return true
}

// sample takes note of the time that a reply took. The estimate goes up by far more than
// it goes down, so that it rests where one reply in twenty is slower.
func (h *hedge) sample(took time.Duration) {
	const step = 0.05
	switch {
	case h.p95 == 0:
		h.p95 = max(took, 1)
	case took > h.p95:
		h.p95 += max(time.Duration(float64(h.p95)*step*0.95), 1)
	default:
		h.p95 = max(h.p95-time.Duration(float64(h.p95)*step*0.05), 1)
	}
}

// hedging is a hedge for many goroutines.
type hedging struct {
	mu sync.Mutex // guards h
	h  hedge
}

func (h *hedging) query() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.h.query()
}

func (h *hedging) take() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.h.take()
}

func (h *hedging) sample(took time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.h.sample(took)
}

// second is the hedge of one query.
type second struct {
	u     *upstream
	r     request
	g     reply
	proto string
	err   error
	began time.Time
	done  chan struct{}
}

// race asks first and, if it has not answered after wait, next as well, and returns who
// gave the reply in j.got and when that was asked, or first with its failure. The slower one is left, and is
// gone when race returns.
func (p *Pool) race(ctx context.Context, j *job, first, next *upstream, wait time.Duration) (*upstream, time.Time, string, error) {
	began := time.Now()
	ctx1, stop1 := context.WithCancel(ctx)
	defer stop1()
	ctx2, stop2 := context.WithCancel(ctx)
	defer stop2()
	s := &second{u: next, r: j.r, done: make(chan struct{})}
	s.r.into = nil
	timer := time.AfterFunc(wait, func() {
		defer close(s.done)
		s.err = errNotAsked
		if ctx2.Err() != nil || !p.hedging.take() {
			return
		}
		s.began = time.Now()
		if s.proto, s.err = p.attempt(ctx2, s.u, &s.r, &s.g, j.tcp); s.err == nil && !p.goesOn(s.g.layout.rcode) {
			stop1()
		}
	})
	proto, err := p.attempt(ctx1, first, &j.r, &j.got, j.tcp)
	took := time.Since(began)
	if timer.Stop() {
		return first, began, proto, err
	}
	good := err == nil && !p.goesOn(j.got.layout.rcode)
	if good {
		stop2()
	}
	<-s.done
	if errors.Is(s.err, errNotAsked) {
		return first, began, proto, err
	}
	won := !good && s.err == nil && !p.goesOn(s.g.layout.rcode)
	p.o.Observer.Hedged(next.Endpoint, won)
	if !won {
		return first, began, proto, err
	}
	if j.attempted != nil {
		j.attempted(first, j.got, proto, err, began)
	}
	switch {
	case err == nil:
		first.answered(j.got.layout.rcode, took)
		p.learn(first, outdone, "")
	case errors.Is(err, context.Canceled):
		first.sampled(took) // at least
	default:
		p.o.Observer.Failed(first.Endpoint, isTimeout(err))
		p.learn(first, failed, Reason(err))
	}
	j.got, j.from = s.g, next.Endpoint
	return next, s.began, s.proto, nil
}

// errNotAsked is the outcome of a hedge that was not sent.
var errNotAsked = errors.New("forward: not asked")

// goesOn says whether a reply with this RCODE leads to the next upstream.
func (p *Pool) goesOn(rcode int) bool { return slices.Contains(p.o.Failover, rcode) }
