package check

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/resolverd/resolverd/registry"
)

// Config is what a Runner needs. Node, View and Report must be set.
type Config struct {
	// Node is this host's name in the registry; other nodes' checks are not run.
	Node string
	// View is followed for the node's checks; checks are run once it is loaded.
	View *registry.View
	// Report writes a check's status to the registry. It is called by up to MaxReports
	// goroutines at once, one at a time for a check, and again with a growing pause
	// (250 ms to 30 s) as long as it returns an error and the check is there. It must
	// not write where nothing would change. Its context ends after 10 s.
	Report func(ctx context.Context, node, checkID string, s registry.Status, output string) error
	// Reap deregisters an instance that was critical for its
	// deregister_critical_after; reason is for the history. Called until it returns
	// nil, then no more for this instance. nil: nothing is reaped.
	Reap func(ctx context.Context, node, instanceID, reason string) error
	// AllowScript says whether a script check may be run: whether a local file that
	// only root can write asks for this very command, or the settings allow scripts
	// from the API. Called before each run. nil: no script is run.
	AllowScript func(c *registry.Check) bool
	// Log gets what an operator should know; nil discards it.
	Log *slog.Logger

	// Interval and Timeout are for definitions that leave them out: 5 s and 1 s.
	Interval, Timeout time.Duration
	// MaxProbes bounds the probes that run at once (256), MaxScripts the scripts among
	// them (32), MaxReports the calls of Report and of Reap (32 each).
	MaxProbes, MaxScripts, MaxReports int
	// OutputEvery is the least time between two writes of a check of which only the
	// output changed (5 min).
	OutputEvery time.Duration

	// newProber replaces the probes in tests.
	newProber func(node string, c *registry.Check) (prober, error)
}

const (
	reportTimeout = 10 * time.Second
	retryLeast    = 250 * time.Millisecond
	retryMost     = 30 * time.Second
	// syncPause and aliasPause are the least time between two looks at the view: under
	// a flood of changes they are taken in together.
	syncPause  = 20 * time.Millisecond
	aliasPause = 100 * time.Millisecond
	// vouchGrace is how long after the start a script that nobody vouches for is held
	// and not yet called critical: the files may not have been read.
	vouchGrace = 10 * time.Second
)

func (c *Config) defaults() {
	c.Interval, c.Timeout = or(c.Interval, DefaultInterval), or(c.Timeout, DefaultTimeout)
	c.MaxProbes, c.MaxScripts, c.MaxReports = or(c.MaxProbes, 256), or(c.MaxScripts, 32), or(c.MaxReports, 32)
	c.OutputEvery = or(c.OutputEvery, 5*time.Minute)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.newProber == nil {
		c.newProber = newProber
	}
}

// Runner runs the checks of one node. Everything but Beat and the Collector's methods
// belongs to the goroutine of Run.
type Runner struct {
	cfg   Config
	node  string // folded
	began time.Time
	meter *meter

	ctx     context.Context // ends with Run
	workers sync.WaitGroup
	results chan probed
	reports chan reported
	reaps   chan reaped

	items   map[string]*item // by check id
	aliases int              // alias checks among them
	due     dueHeap
	syncAt  time.Time
	// ready holds the items that wait for a place, probes and scripts apart; busy counts
	// the places taken.
	ready [2][]*item
	busy  [2]int
	// writes holds the items that wait to be reported.
	writes  []*item
	writing int
	failing bool                // the last report did not work
	reaping map[string]struct{} // instances, by id

	mu     sync.Mutex // guards ttls and beaten
	ttls   map[string]struct{}
	beaten map[string]struct{}
	woken  chan struct{} // holds one
}

// NewRunner returns a runner that does nothing before Run.
func NewRunner(cfg Config) *Runner {
	cfg.defaults()
	return &Runner{
		cfg: cfg, node: registry.Fold(cfg.Node), meter: newMeter(),
		results: make(chan probed), reports: make(chan reported), reaps: make(chan reaped),
		items: map[string]*item{}, reaping: map[string]struct{}{},
		ttls: map[string]struct{}{}, beaten: map[string]struct{}{}, woken: make(chan struct{}, 1),
	}
}

// Beat says that a ttl check was reported. Whoever takes such reports must call it for
// each of them: one that changes nothing is not written, so the view does not show it.
// Checks of other nodes and of other kinds are ignored. Safe for concurrent use, before,
// during and after Run; it never blocks for long.
func (r *Runner) Beat(node, checkID string) {
	if registry.Fold(node) != r.node {
		return
	}
	r.mu.Lock()
	_, known := r.ttls[checkID]
	if known {
		r.beaten[checkID] = struct{}{}
	}
	r.mu.Unlock()
	if known {
		select {
		case r.woken <- struct{}{}:
		default:
		}
	}
}

// Run runs the checks until the context ends, and returns when everything that it
// started has ended. It may be called once.
func (r *Runner) Run(ctx context.Context) error {
	if r.cfg.Node == "" || r.cfg.View == nil || r.cfg.Report == nil {
		return errors.New("check: a runner needs Node, View and Report")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer r.workers.Wait()
	defer cancel()
	r.ctx, r.began = ctx, time.Now()

	timer := time.NewTimer(0)
	defer timer.Stop()
	bell, leave := r.listen()
	defer func() { leave() }()
	r.sync(time.Now())
	for {
		r.dispatch()
		timer.Reset(time.Until(r.wake()))
		select {
		case <-ctx.Done():
			return nil
		case <-bell:
			bell = nil
			r.syncAt = time.Now().Add(r.pause())
		case p := <-r.results:
			r.probed(p)
		case p := <-r.reports:
			r.reported(p)
		case p := <-r.reaps:
			r.reaped(p)
		case <-r.woken:
			r.takeBeats(time.Now())
		case <-timer.C:
			now := time.Now()
			if !r.syncAt.IsZero() && !r.syncAt.After(now) {
				leave()
				bell, leave = r.listen() // before the look, so that nothing is missed
				r.sync(now)
			}
			r.takeDue(now)
		}
	}
}

// listen waits for changes of the node; where there are aliases, for any: they look at
// other nodes.
func (r *Runner) listen() (<-chan struct{}, func()) {
	if r.aliases > 0 {
		return r.cfg.View.Listen(registry.Topic{Kind: registry.TopicAny})
	}
	return r.cfg.View.Listen(registry.Topic{Kind: registry.TopicNode, Name: r.cfg.Node})
}

func (r *Runner) pause() time.Duration {
	if r.aliases > 0 {
		return aliasPause
	}
	return syncPause
}

// wake is when the loop must look again without being called.
func (r *Runner) wake() time.Time {
	t := time.Now().Add(time.Hour)
	if !r.syncAt.IsZero() && r.syncAt.Before(t) {
		t = r.syncAt
	}
	if len(r.due) > 0 && r.due[0].at.Before(t) {
		t = r.due[0].at
	}
	return t
}

// takeDue does what is due by now.
func (r *Runner) takeDue(now time.Time) {
	for len(r.due) > 0 && !r.due[0].at.After(now) {
		it := r.due[0]
		if !it.runAt.IsZero() && !it.runAt.After(now) {
			it.runAt = time.Time{}
			r.ready[it.class] = append(r.ready[it.class], it)
		}
		if !it.deadline.IsZero() && !it.deadline.After(now) {
			it.deadline = time.Time{}
			it.state = it.state.expire(now, expiredOutput(it.rules.ttl))
		}
		r.settle(it, now)
	}
}
