package check

import (
	"container/heap"
	"iter"
	"reflect"
	"time"

	"github.com/resolverd/resolverd/registry"
)

// sync brings the items to what the view shows now.
func (r *Runner) sync(now time.Time) {
	r.syncAt = time.Time{}
	if !r.cfg.View.Loaded() {
		return
	}
	snap := r.cfg.View.Load()
	seen := make(map[string]struct{}, len(r.items))
	for c := range nodeChecks(snap.Node(r.cfg.Node)) {
		if c.Definition == nil {
			continue
		}
		seen[c.ID] = struct{}{}
		it := r.items[c.ID]
		switch {
		case it == nil:
			r.add(c, now)
		case it.check == c:
		case it.check.Created != c.Created || it.check.InstanceID != c.InstanceID ||
			!reflect.DeepEqual(it.check.Definition, c.Definition):
			r.remove(it)
			r.add(c, now)
		default:
			r.changed(it, c, now)
		}
	}
	for id, it := range r.items {
		if _, ok := seen[id]; !ok {
			r.remove(it)
		}
	}
	r.lookAliases(snap, now)
	r.meter.checks.Store(int64(len(r.items)))
}

// nodeChecks yields every check of the node, each once.
func nodeChecks(n *registry.NodeState) iter.Seq[*registry.Check] {
	return func(yield func(*registry.Check) bool) {
		if n == nil {
			return
		}
		for _, c := range n.Checks {
			if !yield(c) {
				return
			}
		}
		for _, i := range n.Instances {
			for _, c := range i.Checks {
				if c.InstanceID != "" && !yield(c) {
					return
				}
			}
		}
	}
}

func (r *Runner) add(c *registry.Check, now time.Time) {
	it := &item{check: c, rules: rulesOf(c.Definition, &r.cfg), state: begin(c)}
	it.phase = phase(r.node, c.ID, it.rules.interval)
	switch c.Definition.Kind {
	case registry.CheckTTL:
		it.deadline = now.Add(it.rules.ttl)
		r.mu.Lock()
		r.ttls[c.ID] = struct{}{}
		r.mu.Unlock()
	case registry.CheckAlias:
		r.aliases++
		if r.aliases == 1 {
			// The bell that was asked for rings for this node only.
			r.syncAt = now.Add(aliasPause)
		}
	default:
		if c.Definition.Kind == registry.CheckScript {
			it.class = classScript
		}
		it.runAt = r.began.Add(firstRun(now.Sub(r.began), it.phase, it.rules.interval, !c.Ran))
	}
	r.items[c.ID] = it
	heap.Push(&r.due, it)
	r.settle(it, now)
}

func (r *Runner) remove(it *item) {
	it.gone = true
	if it.cancel != nil {
		it.cancel()
	}
	heap.Remove(&r.due, it.index)
	delete(r.items, it.check.ID)
	switch it.check.Definition.Kind {
	case registry.CheckTTL:
		r.mu.Lock()
		delete(r.ttls, it.check.ID)
		delete(r.beaten, it.check.ID)
		r.mu.Unlock()
	case registry.CheckAlias:
		r.aliases--
	}
}

// changed takes in what the registry shows anew of a check that is still the same one:
// our own report, or that of somebody else, which counts for a ttl check only.
func (r *Runner) changed(it *item, c *registry.Check, now time.Time) {
	it.check = c
	foreign := c.Status != it.state.status || c.Output != it.state.output
	if c.Definition.Kind == registry.CheckTTL && foreign {
		it.state = it.state.told(now, c)
		it.deadline = now.Add(it.rules.ttl)
	} else {
		it.state = it.state.show(c)
	}
	r.settle(it, now)
}

// takeBeats puts off the expiry of ttl checks that were reported.
func (r *Runner) takeBeats(now time.Time) {
	r.mu.Lock()
	beaten := r.beaten
	r.beaten = map[string]struct{}{}
	r.mu.Unlock()
	for id := range beaten {
		if it := r.items[id]; it != nil {
			it.deadline = now.Add(it.rules.ttl)
			r.settle(it, now)
		}
	}
}

// lookAliases gives the alias checks what they look at.
func (r *Runner) lookAliases(snap *registry.Snapshot, now time.Time) {
	if r.aliases == 0 {
		return
	}
	for _, it := range r.items {
		if it.check.Definition.Kind != registry.CheckAlias {
			continue
		}
		res := aliasResult(snap, it.check)
		if res.status == it.state.status && res.output == it.state.output && it.state.ran {
			continue
		}
		it.state = it.state.step(it.rules, now, res.status, res.output)
		r.meter.ran(registry.CheckAlias, res.status, 0)
		r.settle(it, now)
	}
}
