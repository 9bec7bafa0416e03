package source

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/catalog"
)

const (
	applyTimeout = 15 * time.Second
	// applyAtOnce is how many registrations are under way: the store commits those that
	// come together in one write to its disk.
	applyAtOnce = 16
)

// want is what a file wants to be in the registry: an instance or a check of the node.
type want struct {
	path string
	def  Definition
	hash string
	// held is why it is not registered although it is not there, and was said; "" for
	// no reason. It counts as long as the hash is the same.
	held string
}

// desired returns what the files want now, by instance id and by check id, and the
// faults that show only when the files are seen together.
func (d *directory) desired() (instances, checks map[string]*want, faults Faults) {
	instances, checks = map[string]*want{}, map[string]*want{}
	for _, e := range d.sorted() {
		if e.good == nil {
			continue
		}
		for _, s := range e.good.Services {
			if had := instances[s.Instance.ID]; had != nil {
				faults = append(faults, Fault{e.path, s.Line, fmt.Sprintf("service id %q is in %s:%d already", clip(s.Instance.ID), had.path, had.def.Line),
					"give one of them another id"})
				continue
			}
			instances[s.Instance.ID] = &want{path: e.path, def: s, hash: s.sum}
		}
		for _, c := range e.good.Checks {
			if had := checks[c.ID]; had != nil {
				faults = append(faults, Fault{File: e.path, What: fmt.Sprintf("check id %q is in %s already", clip(c.ID), had.path),
					Hint: "give one of them another id"})
				continue
			}
			s := Definition{Instance: &registry.Instance{}, Checks: []*registry.Check{c}}
			checks[c.ID] = &want{path: e.path, def: s, hash: s.hash()}
		}
	}
	return instances, checks, faults
}

// lost reports whether a file of this path is there and nothing is known of what it
// said before it broke: what it registered once must stay.
func (d *directory) lost(path string) bool {
	e := d.entries[path]
	return e != nil && e.good == nil
}

// apply brings the registry to what the files want. The error is one that may go away
// by itself; what will not is in the log.
func (f *Files) apply(ctx context.Context) error {
	instances, checks, faults := f.dir.desired()
	f.tell(faults)
	f.keepHeld(instances, f.instances)
	f.keepHeld(checks, f.checks)
	gone := f.instances
	f.instances, f.checks = instances, checks

	snap := f.cfg.View.Load()
	var work []func() error
	for id, w := range instances {
		if !f.upToDate(snap, id, w) {
			work = append(work, func() error { return f.register(ctx, id, w) })
		}
	}
	for id, w := range checks {
		if !f.checkUpToDate(snap, id, w) {
			work = append(work, func() error { return f.registerCheck(ctx, id, w) })
		}
	}
	if err := atOnce(work); err != nil {
		return err
	}
	work = nil
	if n := snap.Node(f.cfg.Node); n != nil {
		for _, i := range n.Instances {
			if i.Owner == registry.OwnerFile && instances[i.ID] == nil && !f.dir.lost(i.Origin) {
				work = append(work, func() error { return f.deregister(ctx, i.ID, i.Origin) })
			}
		}
		for _, c := range n.Checks {
			if c.Owner == registry.OwnerFile && checks[c.ID] == nil && !f.dir.anyLost() {
				work = append(work, func() error { return f.deregisterCheck(ctx, c.ID) })
			}
		}
	}
	for id, w := range gone {
		if t := snap.Tombstone(f.cfg.Node, id); t != nil && t.Owner == registry.OwnerFile && instances[id] == nil {
			// Who takes the file away agrees with who deregistered it.
			work = append(work, func() error { return f.deregister(ctx, id, w.path) })
		}
	}
	return atOnce(work)
}

func (d *directory) anyLost() bool {
	for path := range d.entries {
		if d.lost(path) {
			return true
		}
	}
	return false
}

func (f *Files) keepHeld(now, before map[string]*want) {
	for id, w := range now {
		if b := before[id]; b != nil && b.hash == w.hash {
			w.held = b.held
		}
	}
}

// atOnce does the work, some at a time, and ends early when one says that it cannot be
// done now.
func atOnce(work []func() error) error {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex // guards next and first
		next  int
		first error
	)
	for range min(applyAtOnce, len(work)) {
		wg.Go(func() {
			for {
				mu.Lock()
				if next >= len(work) || first != nil {
					mu.Unlock()
					return
				}
				do := work[next]
				next++
				mu.Unlock()
				if err := do(); err != nil {
					mu.Lock()
					first = errors.Join(first, err)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return first
}

// upToDate reports whether nothing is to be done about the instance.
func (f *Files) upToDate(s *registry.Snapshot, id string, w *want) bool {
	i := s.Instance(f.cfg.Node, id)
	switch {
	case i != nil && i.Owner == registry.OwnerFile && i.Definition == w.hash:
		w.held = ""
		return i.Origin == w.path
	case w.held == heldInvalid:
		return true
	case w.held == heldOwned:
		return i != nil && i.Owner != registry.OwnerFile
	case w.held == heldTombstone:
		t := s.Tombstone(f.cfg.Node, id)
		return t != nil && t.Owner == registry.OwnerFile && t.Definition == w.hash
	}
	return false
}

// Reasons to leave a definition alone.
const (
	heldInvalid   = "invalid"
	heldOwned     = "owned"
	heldTombstone = "tombstone"
	heldDone      = "done" // a check of the node that was registered once
)

func (f *Files) register(ctx context.Context, id string, w *want) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	i := *w.def.Instance
	i.Node, i.Origin = f.cfg.Node, w.path
	reg := catalog.Registration{Instance: &i, Checks: f.onNode(w.def.Checks), ReplaceChecks: true, Definition: w.hash}
	res, err := f.cfg.Catalog.Register(ctx, f.actor(w.path), reg)
	if err == nil {
		w.held = ""
		if res.Changed {
			f.cfg.Log.Info("service registered from file", "service", i.Service, "id", id, "file", w.path)
		}
		return nil
	}
	return f.hold(w, "service", id, err)
}

// hold says why a definition is not registered, once, or returns the error where it may
// go away by itself.
func (f *Files) hold(w *want, what, id string, err error) error {
	at := Fault{File: w.path, Line: w.def.Line}
	var bad *catalog.Invalid
	switch {
	case errors.As(err, &bad):
		w.held = heldInvalid
		f.meter.refused.Inc()
		for _, b := range bad.Fields {
			at.What = fmt.Sprintf("%s %q: %s", what, id, b)
			f.cfg.Log.Error("definition refused; what was registered before stays", "at", at.String())
		}
	case errors.Is(err, catalog.ErrTombstoned):
		w.held = heldTombstone
		f.cfg.Log.Warn("service was deregistered elsewhere and stays away until its definition changes", "id", id, "file", w.path,
			"hint", "change or remove the file, or register it again through the API", "err", err)
	case errors.Is(err, catalog.ErrOwned):
		w.held = heldOwned
		f.cfg.Log.Warn("service is registered by another owner; the file does not replace it", "id", id, "file", w.path, "err", err)
	default:
		return fmt.Errorf("source: register %s %q: %w", what, id, err)
	}
	return nil
}

func (f *Files) deregister(ctx context.Context, id, path string) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	switch _, err := f.cfg.Catalog.Deregister(ctx, f.actor(path), f.cfg.Node, id); {
	case err == nil:
		f.cfg.Log.Info("service deregistered: no file defines it any more", "id", id, "file", path)
	case !errors.Is(err, catalog.ErrNotFound) && !errors.Is(err, catalog.ErrOwned):
		return fmt.Errorf("source: deregister service %q: %w", id, err)
	}
	return nil
}

// checkUpToDate is upToDate for a check of the node. There are no tombstones for those:
// one that somebody deregistered stays away for as long as this process remembers.
func (f *Files) checkUpToDate(s *registry.Snapshot, id string, w *want) bool {
	if w.held != "" {
		return true
	}
	n := s.Node(f.cfg.Node)
	if n == nil {
		return false
	}
	d := w.def.Checks[0]
	for _, c := range n.Checks {
		if c.ID == id && c.Owner == registry.OwnerFile && (c.Name == d.Name || d.Name == "") && c.Notes == d.Notes &&
			reflect.DeepEqual(c.Definition, d.Definition) {
			w.held = heldDone
			return true
		}
	}
	return false
}

func (f *Files) registerCheck(ctx context.Context, id string, w *want) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	_, err := f.cfg.Catalog.Register(ctx, f.actor(w.path), catalog.Registration{Checks: f.onNode(w.def.Checks)})
	if err != nil {
		return f.hold(w, "check", id, err)
	}
	w.held = heldDone
	f.cfg.Log.Info("check of the node registered from file", "check", id, "file", w.path)
	return nil
}

func (f *Files) deregisterCheck(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	if _, err := f.cfg.Catalog.DeregisterCheck(ctx, f.actor(f.dir.path), f.cfg.Node, id); err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return fmt.Errorf("source: deregister check %q: %w", id, err)
	}
	f.cfg.Log.Info("check of the node deregistered: no file defines it any more", "check", id)
	return nil
}

func (f *Files) actor(path string) catalog.Actor {
	return catalog.Actor{Owner: registry.OwnerFile, Name: "file", Source: path}
}

// onNode returns copies of the checks on this node.
func (f *Files) onNode(checks []*registry.Check) []*registry.Check {
	out := make([]*registry.Check, len(checks))
	for n, c := range checks {
		k := *c
		k.Node = f.cfg.Node
		out[n] = &k
	}
	return out
}
