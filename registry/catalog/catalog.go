package catalog

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/resolverd/resolverd/registry"
)

// Store is where writes go.
type Store interface {
	// Commit writes the change at once or not at all and returns its revision;
	// registry.ErrConflict when a guard does not hold.
	Commit(ctx context.Context, c registry.Change) (revision uint64, err error)
	// History returns events, the newest first.
	History(ctx context.Context, q registry.HistoryQuery) ([]registry.Event, error)
}

// Actor is who asks for a change, for ownership and for the history.
type Actor struct {
	// Owner is on whose behalf; "" for those who own nothing: the check runner, the
	// reaper.
	Owner registry.Owner
	// Name is "api", "file", "check", "reaper", ...
	Name string
	// Source is the remote address or the file that it came from.
	Source string
	// Reason is in words, and may be empty.
	Reason string
}

// Result is what a write did.
type Result struct {
	// Changed is false when everything was as asked for already, and nothing was
	// written.
	Changed bool
	// Revision is that of the write, or the one that was looked at.
	Revision uint64
	// Tombstone is the owner who would bring back what was deregistered, and for whom
	// a tombstone was left; "" where none was needed.
	Tombstone registry.Owner
}

const (
	maxTries    = 16
	retryWait   = 50 * time.Millisecond // for the view to move on after a conflict
	visibleWait = 5 * time.Second       // for the view to show a write
	lockCount   = 256
)

// Catalog is safe for any number of goroutines.
type Catalog struct {
	view  *registry.View
	store Store
	log   *slog.Logger
	now   func() time.Time
	seed  maphash.Seed
	// locks make decisions on one instance of one node take turns, so that each sees
	// the last one's write; each is a channel with one place.
	locks [lockCount]chan struct{}
}

// New returns a catalogue that reads the view and writes to the store. The caller keeps
// the view current from the same store. now is time.Now outside of tests.
func New(view *registry.View, store Store, log *slog.Logger, now func() time.Time) *Catalog {
	c := &Catalog{view: view, store: store, log: log, now: now, seed: maphash.MakeSeed()}
	for i := range c.locks {
		c.locks[i] = make(chan struct{}, 1)
	}
	return c
}

// View returns the view that the catalogue decides on.
func (c *Catalog) View() *registry.View { return c.view }

// Check returns a check of the node, or nil. It is the view's and must not be changed.
func (c *Catalog) Check(node, id string) *registry.Check {
	return findCheck(c.view.Load().Node(node), id)
}

// History returns events, the newest first, at most q.Max().
func (c *Catalog) History(ctx context.Context, q registry.HistoryQuery) ([]registry.Event, error) {
	return c.store.History(ctx, q)
}

// lock takes the turn for an instance, or for the node itself where id is "".
func (c *Catalog) lock(ctx context.Context, node, id string) (unlock func(), err error) {
	var h maphash.Hash
	h.SetSeed(c.seed)
	h.WriteString(registry.Fold(node))
	h.WriteByte(0)
	h.WriteString(id)
	l := c.locks[h.Sum64()%lockCount]
	select {
	case l <- struct{}{}:
		return func() { <-l }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("catalog: wait for earlier writes to %s/%s: %w", node, id, ctx.Err())
	}
}

// decision makes a change of what the snapshot shows. It is called again on a newer
// snapshot when another write came between.
type decision func(s *registry.Snapshot) (registry.Change, error)

// change decides, commits and waits until the view shows it.
func (c *Catalog) change(ctx context.Context, decide decision) (Result, error) {
	for range maxTries {
		bell, leave := c.view.Listen(registry.Topic{Kind: registry.TopicAny})
		s := c.view.Load()
		ch, err := decide(s)
		if err != nil || ch.Empty() {
			leave()
			return Result{Revision: s.Revision}, err
		}
		rev, err := c.store.Commit(ctx, ch)
		if err == nil {
			leave()
			c.await(ctx, rev)
			return Result{Changed: true, Revision: rev}, nil
		}
		if !errors.Is(err, registry.ErrConflict) {
			leave()
			return Result{}, fmt.Errorf("catalog: commit: %w", err)
		}
		t := time.NewTimer(retryWait)
		select {
		case <-bell:
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
		leave()
		if ctx.Err() != nil {
			return Result{}, fmt.Errorf("catalog: commit: %w", ctx.Err())
		}
	}
	return Result{}, fmt.Errorf("catalog: gave up after %d tries: %w", maxTries, registry.ErrConflict)
}

// await returns when the view shows the revision, or when it took too long: the write is
// committed in any case.
func (c *Catalog) await(ctx context.Context, rev uint64) {
	if c.view.Load().Revision >= rev {
		return
	}
	t := time.NewTimer(visibleWait)
	defer t.Stop()
	for {
		bell, leave := c.view.Listen(registry.Topic{Kind: registry.TopicAny})
		if c.view.Load().Revision >= rev {
			leave()
			return
		}
		select {
		case <-bell:
			leave()
		case <-t.C:
			leave()
			c.log.Warn("the view does not show a write yet", "revision", rev, "view", c.view.Load().Revision)
			return
		case <-ctx.Done():
			leave()
			return
		}
	}
}

// event is a line of the history by this actor.
func (c *Catalog) event(a Actor, subject, action string) registry.Event {
	return registry.Event{
		Time: c.now().UTC(), Subject: subject, Action: action,
		Actor: a.Name, Source: a.Source, Reason: cut(a.Reason, MaxNotes),
	}
}

// checkEvent is one about a check; the service is that of its instance, if that is there.
func (c *Catalog) checkEvent(s *registry.Snapshot, a Actor, k *registry.Check, action string) registry.Event {
	ev := c.event(a, "check", action)
	ev.Node, ev.Instance, ev.ID = k.Node, k.InstanceID, k.ID
	if i := s.Instance(k.Node, k.InstanceID); i != nil {
		ev.Service = i.Service
	}
	return ev
}

// findCheck returns a check of the node, whichever instance it belongs to, or nil.
func findCheck(n *registry.NodeState, id string) *registry.Check {
	if n == nil {
		return nil
	}
	is := func(c *registry.Check) bool { return c.ID == id }
	// Most checks are called after their instance: look there before everywhere.
	if of, ok := strings.CutPrefix(id, "service:"); ok {
		for range 2 {
			at, found := slices.BinarySearchFunc(n.Instances, of, func(i *registry.InstanceState, id string) int {
				return strings.Compare(i.ID, id)
			})
			if found {
				if k := slices.IndexFunc(n.Instances[at].Checks, is); k >= 0 {
					return n.Instances[at].Checks[k]
				}
			}
			end := strings.LastIndexByte(of, ':')
			if end < 0 {
				break
			}
			of = of[:end]
		}
	}
	if at := slices.IndexFunc(n.Checks, is); at >= 0 {
		return n.Checks[at]
	}
	for _, i := range n.Instances {
		if at := slices.IndexFunc(i.Checks, is); at >= 0 {
			return i.Checks[at]
		}
	}
	return nil
}

// ownChecks returns the checks of the instance without those of its node.
func ownChecks(i *registry.InstanceState) []*registry.Check {
	if i == nil {
		return nil
	}
	var own []*registry.Check
	for _, c := range i.Checks {
		if c.InstanceID != "" {
			own = append(own, c)
		}
	}
	return own
}

// guard demands that the key is as the snapshot shows it.
func guard(k registry.Key, r registry.Revisions) registry.Guard {
	return registry.Guard{Key: k, Modified: r.Modified}
}
