package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/catalog"
	"github.com/resolverd/resolverd/registry/relay"
	"github.com/resolverd/resolverd/registry/store"
)

// ErrStore is returned where the store failed: the process should end with
// store.ExitStore and be started again.
var ErrStore = errors.New("agent: the store failed")

const (
	// loadTimeout is how long the store may take to give everything at start.
	loadTimeout = 2 * time.Minute
	// stopTimeout bounds each step of a stop.
	stopTimeout = 5 * time.Second
)

// Run is the agent. It returns nil after the context ended and everything was stopped in
// good order, else what failed. The caller ends the process then.
func Run(ctx context.Context, cfg Config) error {
	cfg.defaults()
	if err := cfg.Validate(); err != nil {
		return err
	}
	a := &agent{cfg: cfg, log: cfg.Log, view: registry.NewView(), failed: make(chan error, 1)}
	defer a.stop()
	if err := a.start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // told to stop while starting
		}
		return err
	}
	select {
	case <-ctx.Done():
		a.log.Info("agent stops")
		return nil
	case err := <-a.failed:
		return err
	case <-a.store.Failed():
		return ErrStore
	}
}

// agent is the parts while they run.
type agent struct {
	cfg  Config
	log  *slog.Logger
	view *registry.View

	store   *store.Store
	hub     *relay.Hub
	catalog *catalog.Catalog
	stops   []func()   // in the order of the starts
	failed  chan error // takes the first failure
}

// onStop has f called when the agent stops, before what was given earlier.
func (a *agent) onStop(f func()) { a.stops = append(a.stops, f) }

func (a *agent) stop() {
	for i := len(a.stops) - 1; i >= 0; i-- {
		a.stops[i]()
	}
	a.stops = nil
}

// spawn runs f until the agent stops. An f that ends before is a failure of the agent.
func (a *agent) spawn(what string, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		err := f(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("ended")
		}
		select {
		case a.failed <- fmt.Errorf("agent: %s: %w", what, err):
		default:
		}
	})
	a.onStop(func() { cancel(); wg.Wait() })
}

func (a *agent) start(ctx context.Context) error {
	began := time.Now()
	for _, step := range []func(context.Context) error{
		a.openStore, a.follow, a.serveRelay, a.enterNode, a.keepAlive, a.startLocal,
	} {
		if err := step(ctx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	services, nodes, _ := a.view.Load().Counts()
	a.log.Info("agent is up", "node", a.cfg.Node, "services", services, "nodes", nodes,
		"revision", a.view.Load().Revision, "took", time.Since(began).Round(time.Millisecond).String())
	return nil
}

func (a *agent) openStore(ctx context.Context) error {
	if err := os.MkdirAll(a.cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	s, err := store.Open(ctx, store.Config{Dir: a.cfg.storeDir(), Log: a.log})
	if err != nil {
		return err
	}
	a.store = s
	a.onStop(func() {
		if err := s.Close(); err != nil {
			a.log.Warn("agent: close the store", "error", err)
		}
	})
	return nil
}

// follow keeps the process's own view and what the hub relays as the store says, and
// returns when the view is loaded.
func (a *agent) follow(ctx context.Context) error {
	a.hub = relay.NewHub(relay.HubConfig{
		View: a.view, Store: a.store.ID(), Node: a.cfg.Node, Log: a.log, UIDs: []int{a.cfg.AnswererUID},
	})
	loaded := make(chan struct{})
	var once sync.Once
	a.spawn("follow the store", func(ctx context.Context) error {
		return a.store.Follow(ctx, 0, func(b registry.Batch) error {
			if err := a.view.Apply(b); err != nil {
				a.log.Warn("agent: records left out", "revision", b.Revision, "error", err)
			}
			a.view.Heard(time.Now())
			a.hub.Publish(b)
			once.Do(func() { close(loaded) })
			return nil
		})
	})
	select {
	case <-loaded:
		a.catalog = catalog.New(a.view, visible{a.store, a.hub}, a.log, time.Now)
		return nil
	case err := <-a.failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(loadTimeout):
		return fmt.Errorf("%w: nothing read from it within %s", ErrStore, loadTimeout)
	}
}

func (a *agent) serveRelay(context.Context) error {
	l, err := relay.Listen(a.cfg.relaySocket())
	if err != nil {
		return err
	}
	if a.cfg.AnswererGID != 0 {
		if err := os.Chown(a.cfg.relaySocket(), -1, a.cfg.AnswererGID); err != nil {
			l.Close()
			return fmt.Errorf("agent: give relay.sock to the answerer's group: %w", err)
		}
	}
	a.spawn("relay", func(ctx context.Context) error { return a.hub.Serve(ctx, net.Listener(l)) })
	return nil
}

// visibleWait is how long a writer waits for the answerers to show its write.
const visibleWait = 250 * time.Millisecond

// visible is the store to the catalogue: a write is done when the answerers that are
// connected show it too, so that what was registered resolves. One that is slow is not
// waited for.
type visible struct {
	*store.Store
	hub *relay.Hub
}

func (v visible) Commit(ctx context.Context, c registry.Change) (uint64, error) {
	rev, err := v.Store.Commit(ctx, c)
	if err == nil && rev != 0 {
		v.hub.Await(ctx, rev, visibleWait)
	}
	return rev, err
}
