package fastpath

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/resolverd/resolverd/internal/answer"
)

const (
	// readEvery is how long the reader lets records gather while there are some and no ring
	// is half full: to wake a goroutine for each query costs more than the query.
	readEvery = 50 * time.Millisecond
	// tellEvery is how often losses are logged at most.
	tellEvery = time.Second
)

// reader is the goroutine that tells watchers what the rings hold. It begins with the
// first Corefile in which somebody watches.
type reader struct {
	log  *slog.Logger
	lost atomic.Uint64 // records that found no room

	idle  atomic.Bool // it waits for wake
	wake  chan struct{}
	flush chan chan struct{}

	mu      sync.Mutex // guards the rest
	rings   []*ring
	watched bool
	end     chan struct{} // nil where it does not run
	ended   chan struct{}
}

// reading is the goroutine's own.
type reading struct {
	*reader
	rings   []*ring
	touched []answer.Watcher
	told    uint64 // of lost
	toldAt  time.Time
}

func newReader(log *slog.Logger) *reader {
	return &reader{log: log, wake: make(chan struct{}, 1), flush: make(chan chan struct{})}
}

// ring returns a new ring for one goroutine that answers.
func (r *reader) ring() *ring {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := &ring{reader: r}
	if r.watched {
		o.grow(ringSlots, ringOctets)
	}
	r.rings = append(r.rings, o)
	return o
}

// start gives the rings memory and begins to read, if that was not done.
func (r *reader) start() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watched = true
	for _, o := range r.rings {
		o.grow(ringSlots, ringOctets)
	}
	if r.end == nil {
		r.end, r.ended = make(chan struct{}), make(chan struct{})
		g := &reading{reader: r, rings: slices.Clone(r.rings), told: r.lost.Load()}
		go g.run(r.end, r.ended)
	}
}

// stop tells what the rings hold and forgets them; nobody may note any more.
func (r *reader) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end != nil {
		close(r.end)
		select {
		case <-r.ended:
		case <-time.After(grace):
			r.log.Warn("what was answered last is not in log or dnstap: they take nothing")
		}
		r.end = nil
	}
	r.rings, r.watched = nil, false
}

// drain waits until what was published before the call is told, for a while.
func (r *reader) drain() {
	r.mu.Lock()
	ended := r.ended
	running := r.end != nil
	r.mu.Unlock()
	if !running {
		return
	}
	late := time.NewTimer(grace)
	defer late.Stop()
	done := make(chan struct{})
	select {
	case r.flush <- done:
		select {
		case <-done:
			return
		case <-late.C:
		}
	case <-ended:
		return
	case <-late.C:
	}
	r.log.Warn("answers wait to be told to log or dnstap: they take nothing")
}

// nudge wakes the reader if it sleeps; now says that it should not wait for its turn
// either.
func (r *reader) nudge(now bool) {
	if r.idle.Load() && r.idle.CompareAndSwap(true, false) || now {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// run reads until end is closed. The rings do not change meanwhile.
func (r *reading) run(end, ended chan struct{}) {
	defer close(ended)
	turn := time.NewTimer(readEvery)
	defer turn.Stop()
	for {
		n := r.read()
		r.tell(time.Now(), false)
		if n == 0 && r.lost.Load() == r.told {
			r.idle.Store(true)
			if r.waiting() {
				r.idle.Store(false)
				continue
			}
			select {
			case <-r.wake:
			case done := <-r.flush:
				r.read()
				close(done)
			case <-end:
				r.finish()
				return
			}
			r.idle.Store(false)
			continue
		}
		turn.Reset(readEvery)
		select {
		case <-turn.C:
		case <-r.wake:
		case done := <-r.flush:
			r.read()
			close(done)
		case <-end:
			r.finish()
			return
		}
	}
}

func (r *reading) waiting() bool {
	return slices.ContainsFunc(r.rings, func(o *ring) bool { return o.head.Load() != o.tail.Load() })
}

func (r *reading) finish() {
	r.idle.Store(false)
	r.read()
	r.tell(time.Now(), true)
}

// read tells what was published when it began, and returns how many records it were.
func (r *reading) read() int {
	n := 0
	now := time.Now()
	ticks := clock(now)
	var told answer.Repetition
	for _, o := range r.rings {
		n += o.take(func(s *record, q, reply []byte) {
			told = answer.Repetition{
				Client: s.peer.client(), ID: s.id,
				At: now.Add(time.Duration(s.at - ticks)), Took: time.Duration(s.took),
			}
			s.each(func(w *answer.Watch) {
				told.Query, told.Response = nil, nil
				if w.Packets {
					told.Query, told.Response = q, reply
				}
				if !slices.Contains(r.touched, w.To) {
					r.touched = append(r.touched, w.To)
				}
				w.To.Repeated(w.Note, &told)
			})
		})
	}
	for _, t := range r.touched {
		t.Flush()
	}
	clear(r.touched)
	r.touched = r.touched[:0]
	return n
}

// tell logs what was lost since the last time, not too often unless it is the last.
func (r *reading) tell(now time.Time, last bool) {
	lost := r.lost.Load()
	if lost == r.told || !last && now.Sub(r.toldAt) < tellEvery {
		return
	}
	r.log.Warn("answers of the fast path are not in log or dnstap: they came faster than those took them", "dropped", lost-r.told)
	r.told, r.toldAt = lost, now
}
