package source

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"reflect"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/catalog"
)

// Catalog is what the source writes to; [catalog.Catalog] is one.
type Catalog interface {
	Register(ctx context.Context, a catalog.Actor, r catalog.Registration) (catalog.Result, error)
	Deregister(ctx context.Context, a catalog.Actor, node, id string) (catalog.Result, error)
	DeregisterCheck(ctx context.Context, a catalog.Actor, node, id string) (catalog.Result, error)
}

// Config is what a Files needs. All but Log must be set.
type Config struct {
	// Dir is the directory. It may be missing, and appear later.
	Dir string
	// Node is this host's name in the registry. It must be registered by the agent.
	Node    string
	Catalog Catalog
	// View is the one that Catalog decides on.
	View *registry.View
	// Log gets faults with file and line; nil discards them.
	Log *slog.Logger
}

const (
	// quiet and patience bound how long after a change the directory is read: when
	// nothing happened for quiet, or patience is over.
	quiet    = 100 * time.Millisecond
	patience = time.Second
	// rescan is the pause between two looks without a change; look is the one while
	// the directory cannot be watched.
	rescan     = 10 * time.Second
	look       = time.Second
	retryLeast = time.Second
	retryMost  = 30 * time.Second
)

// Files follows a directory. Everything but Vouches and the Collector's methods belongs
// to the goroutine of Run.
type Files struct {
	cfg   Config
	dir   directory
	meter *meter

	instances, checks map[string]*want
	told              map[string]bool // faults between files that the log has
	unreadable        string          // the directory's error that the log has

	watch   *fsnotify.Watcher // nil where the system gives us none
	watched stamp             // the directory that is watched; zero for none

	mu      sync.RWMutex
	vouched map[string][]string // guarded by mu: check id to command

	passed func() // tests: called after each pass
}

// NewFiles reads the directory, so that Vouches knows what stands there, and registers
// nothing before Run.
func NewFiles(cfg Config) *Files {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	f := &Files{
		cfg: cfg, dir: directory{path: cfg.Dir, entries: map[string]*entry{}}, meter: newMeter(),
		told: map[string]bool{}, vouched: map[string][]string{}, passed: func() {},
	}
	f.scan()
	return f
}

// Vouches reports whether a file that only root or the agent's user can write asks for
// this script check with this very command: the check runner's AllowScript. Safe for
// concurrent use.
func (f *Files) Vouches(c *registry.Check) bool {
	if c.Definition == nil || registry.Fold(c.Node) != registry.Fold(f.cfg.Node) {
		return false
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	args, ok := f.vouched[c.ID]
	return ok && reflect.DeepEqual(args, c.Definition.Args)
}

// Run applies the files until the context ends. It waits for the view to be loaded, and
// keeps on trying while the catalogue cannot be written.
func (f *Files) Run(ctx context.Context) error {
	if !f.awaitView(ctx) {
		return nil
	}
	var events chan fsnotify.Event
	var faults chan error
	if w, err := fsnotify.NewWatcher(); err != nil {
		f.cfg.Log.Warn("directory cannot be watched; it is read every second", "dir", f.cfg.Dir, "err", err)
	} else {
		defer w.Close()
		f.watch, events, faults = w, w.Events, w.Errors
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var pause time.Duration
	var first time.Time // of the changes that were not looked at yet
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev := <-events:
			if ev.Op == fsnotify.Chmod && !wanted(ev.Name) && ev.Name != f.cfg.Dir {
				continue
			}
			now := time.Now()
			if first.IsZero() {
				first = now
			}
			timer.Reset(max(0, min(quiet, first.Add(patience).Sub(now))))
		case err := <-faults:
			// Lost events; the next look finds what they were about.
			f.cfg.Log.Warn("watching the directory", "dir", f.cfg.Dir, "err", err)
			timer.Reset(quiet)
		case <-timer.C:
			first = time.Time{}
			pause = f.pass(ctx, pause)
			timer.Reset(f.next(pause))
			f.passed()
		}
	}
}

// next is how long to wait for the next look.
func (f *Files) next(pause time.Duration) time.Duration {
	switch {
	case pause > 0:
		return pause
	case f.watched == stamp{}:
		return look
	}
	return rescan
}

// pass looks once. It returns the pause before the next try where something could not
// be done now, else 0.
func (f *Files) pass(ctx context.Context, pause time.Duration) time.Duration {
	f.follow() // first, so that no change is missed
	if !f.scan() {
		return 0
	}
	if err := f.apply(ctx); err != nil && ctx.Err() == nil {
		if pause == 0 {
			f.cfg.Log.Warn("files could not be applied; trying again", "err", err)
		}
		return min(max(2*pause, retryLeast), retryMost)
	}
	return 0
}

// follow has the directory watched that stands at the path now: another one may have
// been moved there.
func (f *Files) follow() {
	if f.watch == nil {
		return
	}
	var now stamp
	if st, err := os.Stat(f.cfg.Dir); err == nil && st.IsDir() {
		s := stampOf(st)
		now = stamp{dev: s.dev, ino: s.ino}
	}
	if now == f.watched && now != (stamp{}) {
		return
	}
	if f.watched != (stamp{}) {
		_ = f.watch.Remove(f.cfg.Dir) // it went with the old directory, mostly
	}
	f.watched = stamp{}
	if now != (stamp{}) && f.watch.Add(f.cfg.Dir) == nil {
		f.watched = now
	}
}

// scan reads what changed, says what is wrong with it, and renews what is vouched for.
// false means that the directory could not be read.
func (f *Files) scan() bool {
	was := f.dir.missing
	read, hcl, err := f.dir.scan(time.Now())
	if err != nil {
		if f.unreadable != err.Error() {
			f.cfg.Log.Error("directory cannot be read; what it said before stays", "dir", f.cfg.Dir, "err", err)
		}
		f.unreadable = err.Error()
		return false
	}
	f.unreadable = ""
	if f.dir.missing && !was && len(f.instances) > 0 {
		f.cfg.Log.Warn("directory is gone, and the services that its files defined go with it", "dir", f.cfg.Dir)
	}
	if hcl != "" {
		f.cfg.Log.Warn("HCL files are not read", "file", hcl, "hint", "write it as .json or .yaml; the keys are the same")
	}
	for _, e := range read {
		for _, x := range e.faults {
			f.cfg.Log.Error("file refused; what it said before stays", "at", x.String())
		}
		if e.broken {
			f.meter.refused.Inc()
			continue
		}
		for _, x := range e.good.Notes {
			f.cfg.Log.Info("file has a key that means nothing here", "at", x.String())
		}
	}
	f.vouch()
	return true
}

// vouch notes the commands of files that can be trusted; those of others are refused
// when they are read.
func (f *Files) vouch() {
	vouched := map[string][]string{}
	note := func(checks []*registry.Check) {
		for _, c := range checks {
			if c.Definition != nil && c.Definition.Kind == registry.CheckScript {
				vouched[c.ID] = c.Definition.Args
			}
		}
	}
	files, broken, services := 0, 0, 0
	for _, e := range f.dir.entries {
		files++
		if e.broken {
			broken++
		}
		if e.good != nil {
			services += len(e.good.Services)
			note(e.good.Checks)
			for _, s := range e.good.Services {
				note(s.Checks)
			}
		}
	}
	f.meter.files.Set(float64(files))
	f.meter.broken.Set(float64(broken))
	f.meter.services.Set(float64(services))
	f.mu.Lock()
	f.vouched = vouched
	f.mu.Unlock()
}

// tell logs faults between files, each once.
func (f *Files) tell(faults Faults) {
	now := map[string]bool{}
	for _, x := range faults {
		s := x.String()
		if !f.told[s] && !now[s] {
			f.cfg.Log.Error("definition refused", "at", s)
		}
		now[s] = true
	}
	f.told = now
}

// awaitView waits until the view is loaded; false when the context ended first.
func (f *Files) awaitView(ctx context.Context) bool {
	for {
		bell, leave := f.cfg.View.Listen(registry.Topic{Kind: registry.TopicAny})
		if f.cfg.View.Loaded() {
			leave()
			return true
		}
		select {
		case <-ctx.Done():
			leave()
			return false
		case <-bell:
			leave()
		}
	}
}

// CheckDir parses every file of a directory as Run would, and returns all faults; nil
// where there are none or the directory is not there. For `resolverd check`.
func CheckDir(dir string) (Faults, error) {
	d := directory{path: dir, entries: map[string]*entry{}}
	if _, _, err := d.scan(time.Now()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all Faults
	for _, e := range d.sorted() {
		all = append(all, e.faults...)
	}
	_, _, between := d.desired()
	return append(all, between...), nil
}
