package corefile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"

	"github.com/resolverd/resolverd/internal/listenlock"
	"github.com/resolverd/resolverd/internal/resident"
)

// ListenersName is the name under which the process provides its listeners to plugins:
//
//	listeners, ok := resident.Provided[func() []netip.AddrPort]("listeners")
//
// The function returns every address and port that the Corefile being loaded asks for
// and that the one being served listens on. An unspecified address (0.0.0.0 or ::)
// stands for every address of the host. It may be called from a setup and at any time
// later, by any number of goroutines.
const ListenersName = "listeners"

// ErrStopped is returned by [Runner.Reload] once Stop has begun.
var ErrStopped = errors.New("corefile: stopped")

// ErrRunning is returned by [Start] where the process has a Runner already.
var ErrRunning = errors.New("corefile: this process runs a Corefile already")

// Config is what [Start] needs besides the Corefile.
type Config struct {
	Source Source
	// LockDir is where the listeners' locks lie, see listenlock.Dir; "" takes none.
	LockDir string
	// Command names this process to the second copy that is refused.
	Command string
	// Log gets warnings and what a reload did; nil is silence.
	Log *slog.Logger
}

// Runner is the running CoreDNS. One at a time in a process: caddy's registry and
// [resident] are the process's. Its methods are safe for concurrent use.
type Runner struct {
	config Config
	log    *slog.Logger
	locks  *listenlock.Set // nil where none are taken

	loaded  atomic.Pointer[Loaded] // what is served
	loading atomic.Pointer[Loaded] // what is being started, or nil
	refused atomic.Pointer[string] // why poll refused last, or nil
	polled  atomic.Pointer[Loaded] // what poll last found to be new and possible, or nil

	offeredMu sync.Mutex // guards both
	offered   []*Loaded
	pending   *caddy.Instance // being built, or nil

	turn sync.Mutex // one Reload or Stop at a time

	mu       sync.Mutex // held from begin to failed or served; guards the rest
	instance *caddy.Instance
	stopped  bool
}

// Start loads the Corefile and serves it. When it returns without an error every
// listener answers. The error is [Faults] (with a [listenlock.Taken] in it where an
// address cannot be had), [listenlock.Held], or [ErrRunning].
func Start(c Config) (*Runner, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	r := &Runner{config: c, log: c.Log}
	l, err := Load(c.Source)
	if err != nil {
		return nil, err
	}
	if c.LockDir != "" {
		if r.locks, err = listenlock.NewSet(c.LockDir, c.Command); err != nil {
			return nil, err
		}
	}
	if !running.CompareAndSwap(nil, r) {
		return nil, ErrRunning
	}
	hook()
	dnsserver.Quiet = true
	caddy.Quiet = true
	if err := r.first(l); err != nil {
		running.Store(nil)
		if r.locks != nil {
			r.locks.Close()
		}
		return nil, err
	}
	return r, nil
}

// first starts the first instance.
func (r *Runner) first(l *Loaded) (err error) {
	if err := r.prepare(context.Background(), l); err != nil {
		return err
	}
	r.mu.Lock() // until served
	resident.Begin()
	resident.Provide(ListenersName, r.Listeners)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("corefile: a plugin's setup panicked: %v", p)
		}
		if err != nil {
			r.loading.Store(nil)
			resident.Abort()
			r.mu.Unlock()
		}
	}()
	if _, err := caddy.Start(r.offer(l)); err != nil {
		return Faults{faultOf(err, l)}
	}
	return nil
}

// Reload loads the Corefile again and serves it instead. It waits until the new one
// answers and the old one has finished its queries. With an error, which is one of
// those of [Start] or [ErrStopped], the old one serves on. ctx is looked at before the
// swap begins; the swap itself is not cut short.
func (r *Runner) Reload(ctx context.Context) error {
	r.turn.Lock()
	defer r.turn.Unlock()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		r.mu.Lock()
		inst, stopped := r.instance, r.stopped
		r.mu.Unlock()
		if stopped {
			return ErrStopped
		}
		l, err := Load(r.config.Source)
		if err != nil {
			return err
		}
		if err := r.prepare(ctx, l); err != nil {
			return err
		}
		fresh, err := inst.Restart(r.offer(l))
		switch {
		case errors.Is(err, errSuperseded):
			continue // stock `reload` swapped meanwhile: now its instance
		case errors.Is(err, ErrStopped):
			return ErrStopped
		case err != nil:
			return Faults{faultOf(err, l)}
		case fresh == nil:
			// Restart swallows a panic and says so in the log only.
			return Faults{{File: l.Path, Text: "a plugin's setup panicked", Hint: "the log has the panic"}}
		}
		r.refused.Store(nil)
		return nil
	}
}

// Stop waits out lameduck, answers what is in flight, closes the listeners and then the
// residents. Past ctx it returns ctx's error and goes on in the background, for the
// process is about to end. It may be called more than once.
func (r *Runner) Stop(ctx context.Context) error {
	r.turn.Lock()
	defer r.turn.Unlock()
	r.mu.Lock()
	if r.stopped {
		r.mu.Unlock()
		return nil
	}
	r.stopped = true
	inst := r.instance
	r.mu.Unlock()

	done := make(chan error, 1)
	go func() { done <- r.stop(inst) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("corefile: stop: %w", ctx.Err())
	}
}

func (r *Runner) stop(inst *caddy.Instance) error {
	var errs []error
	// ready says no and health sleeps its lameduck here, while everything still answers.
	for _, f := range inst.OnFinalShutdown {
		errs = append(errs, f())
	}
	errs = append(errs, inst.Stop())
	inst.Wait()
	for _, f := range inst.OnShutdown {
		errs = append(errs, f())
	}
	errs = append(errs, resident.Shutdown()...)
	if r.locks != nil {
		r.locks.Close()
	}
	running.CompareAndSwap(r, nil)
	return errors.Join(errs...)
}

// Loaded returns the Corefile that is served.
func (r *Runner) Loaded() *Loaded { return r.loaded.Load() }

// Listeners returns what [ListenersName] describes.
func (r *Runner) Listeners() []netip.AddrPort {
	var out []netip.AddrPort
	for _, l := range []*Loaded{r.loaded.Load(), r.loading.Load()} {
		if l == nil {
			continue
		}
		for _, ap := range l.Listeners() {
			if !slices.Contains(out, ap) {
				out = append(out, ap)
			}
		}
	}
	return out
}

func (r *Runner) warn(l *Loaded) {
	for _, w := range l.Warnings {
		r.log.Warn(w)
	}
}

func (r *Runner) report(errs []error) {
	for _, err := range errs {
		r.log.Error("closing what the Corefile no longer uses", "error", err)
	}
}

func (l *Loaded) input() caddy.Input {
	return caddy.CaddyfileInput{Filepath: l.Path, Contents: l.Body, ServerTypeName: "dns"}
}
