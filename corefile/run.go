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
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"

	"github.com/resolverd/resolverd/internal/resident"
)

// ListenersName is the name under which the process provides its listeners to plugins:
//
//	listeners, ok := resident.Provided[func() []netip.AddrPort](corefile.ListenersName)
//
// The function returns every address and port that the Corefile being loaded asks for
// and that the one being served listens on. An unspecified address (0.0.0.0 or ::)
// stands for every address of the host. It may be called from a setup and at any time
// later, by any number of goroutines. The plugins use the literal, for they must not
// import this package.
const ListenersName = "listeners"

// maxStop bounds the wait for queries in flight when everything stops. CoreDNS itself
// gives each listener 5 s.
const maxStop = 10 * time.Second

// ErrStopped is returned by [Runner.Reload] once Stop has begun.
var ErrStopped = errors.New("corefile: stopped")

// Config is what [Start] needs besides the Corefile.
type Config struct {
	Source Source
	// LockDir is where the listeners' locks lie; "" takes none (tests).
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

	loaded  atomic.Pointer[Loaded] // what is served
	loading atomic.Pointer[Loaded] // what is being started, or nil

	mu       sync.Mutex // guards a change of instance, from its beginning to its end
	instance *caddy.Instance
	stopped  bool
}

// Start loads the Corefile and serves it. When it returns without an error every
// listener answers. The error is [Faults], a [Fault], or that of a lock or listener.
func Start(c Config) (*Runner, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	r := &Runner{config: c, log: c.Log}
	l, err := Load(c.Source)
	if err != nil {
		return nil, err
	}
	r.warn(l)
	dnsserver.Quiet = true
	resident.Begin()
	resident.SetBlocks(l.identities())
	r.loading.Store(l)
	resident.Provide(ListenersName, r.Listeners)
	inst, err := r.start(l)
	if err != nil {
		r.loading.Store(nil)
		resident.Abort()
		return nil, err
	}
	r.instance = inst
	r.loaded.Store(l)
	r.loading.Store(nil)
	r.report(resident.Commit())
	return r, nil
}

func (r *Runner) start(l *Loaded) (inst *caddy.Instance, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("corefile: a plugin's setup panicked: %v", p)
		}
	}()
	inst, err = caddy.Start(l.input())
	if err != nil {
		return nil, Faults{faultOf(err, l)}
	}
	return inst, nil
}

// Reload loads the Corefile again and serves it instead. It waits until the new one
// answers and the old one has finished its queries. With an error the old one serves on.
func (r *Runner) Reload(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return ErrStopped
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	l, err := Load(r.config.Source)
	if err != nil {
		return err
	}
	resident.Begin()
	resident.SetBlocks(l.identities())
	r.loading.Store(l)
	defer r.loading.Store(nil)
	inst, err := r.instance.Restart(l.input())
	if err == nil && inst == nil {
		err = errors.New("a plugin's setup panicked")
	}
	if err != nil {
		resident.SetBlocks(r.loaded.Load().identities())
		r.report(resident.Abort())
		return Faults{faultOf(err, l)}
	}
	r.instance = inst
	r.loaded.Store(l)
	r.report(resident.Commit())
	r.warn(l)
	return nil
}

// Stop waits out lameduck, answers what is in flight, closes the listeners and then the
// residents. It may be called more than once.
func (r *Runner) Stop(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return nil
	}
	r.stopped = true
	var errs []error
	// health sleeps its lameduck here, while everything still answers.
	for _, f := range r.instance.OnFinalShutdown {
		errs = append(errs, f())
	}
	errs = append(errs, r.instance.Stop())
	for _, f := range r.instance.OnShutdown {
		errs = append(errs, f())
	}
	errs = append(errs, resident.Shutdown()...)
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
		r.log.Error("closing what the new Corefile no longer uses", "error", err)
	}
}

func (l *Loaded) identities() []string {
	ids := make([]string, len(l.Blocks))
	for i, b := range l.Blocks {
		ids[i] = b.Identity
	}
	return ids
}

func (l *Loaded) input() caddy.Input {
	return caddy.CaddyfileInput{Filepath: l.Path, Contents: l.Body, ServerTypeName: "dns"}
}

// provide offers l's listeners alone, for a check.
func (l *Loaded) provide() {
	resident.SetBlocks(l.identities())
	resident.Provide(ListenersName, l.Listeners)
}
