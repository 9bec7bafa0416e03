package check

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/resolverd/resolverd/registry"
)

// probed is a run that ended, reported a report that was made or refused, reaped the
// same of a deregistration.
type probed struct {
	it    *item
	class int
	res   result
	skip  bool // there was no result to count
}

type reported struct {
	it     *item
	status registry.Status
	output string
	err    error
}

type reaped struct {
	it       *item
	instance string
	err      error
}

// dispatch starts what waits and has a place.
func (r *Runner) dispatch() {
	for class, limit := range [...]int{classNet: r.cfg.MaxProbes, classScript: min(r.cfg.MaxScripts, r.cfg.MaxProbes)} {
		q := r.ready[class]
		for len(q) > 0 && r.busy[class] < limit {
			it := q[0]
			q[0], q = nil, q[1:]
			if !it.gone {
				r.start(it)
			}
		}
		r.ready[class] = q
	}
	for len(r.writes) > 0 && r.writing < r.cfg.MaxReports {
		it := r.writes[0]
		r.writes[0], r.writes = nil, r.writes[1:]
		it.queued = false
		if !it.gone && it.state.due(it.rules, time.Now()).write {
			r.write(it)
		}
	}
	r.meter.running.Store(int64(r.busy[classNet] + r.busy[classScript]))
	r.meter.waiting.Store(int64(len(r.ready[classNet]) + len(r.ready[classScript])))
}

// start runs a check once, in a goroutine that ends with the run's context.
func (r *Runner) start(it *item) {
	ctx, cancel := context.WithTimeout(r.ctx, it.rules.timeout)
	it.cancel, it.started = cancel, time.Now()
	r.busy[it.class]++
	c, p, first := it.check, it.prober, !it.hinted
	it.hinted = true
	r.workers.Go(func() {
		defer cancel()
		out := probed{it: it, class: it.class}
		if c.Definition.Kind == registry.CheckScript {
			if first {
				r.hint(c)
			}
			if r.cfg.AllowScript == nil || !r.cfg.AllowScript(c) {
				out.skip = time.Since(r.began) < vouchGrace
				out.res = critical("not run: a script check must come from a file in services.d that only root can write")
				r.send(out)
				return
			}
		}
		if p == nil {
			var err error
			if p, err = r.cfg.newProber(r.cfg.Node, c); err != nil {
				out.res = critical("%v", err)
				r.send(out)
				return
			}
			it.prober = p // read again only after the send
		}
		began := time.Now()
		out.res = p.probe(ctx)
		r.meter.ran(c.Definition.Kind, out.res.status, time.Since(began))
		r.send(out)
	})
}

func (r *Runner) send(p probed) {
	select {
	case r.results <- p:
	case <-r.ctx.Done():
	}
}

// hint tells once what a script's exit codes will mean.
func (r *Runner) hint(c *registry.Check) {
	if d := c.Definition; !d.WarningIsCritical && endsInGrep(d.Args) {
		r.cfg.Log.Warn("check script ends in grep: exit code 1 (no match) is a warning, and a warning is still answered",
			"check", c.ID, "instance", c.InstanceID, "hint", "set warning_is_critical: true, or end the script in `|| exit 2`")
	}
}

func (r *Runner) probed(p probed) {
	r.busy[p.class]--
	it, now := p.it, time.Now()
	if it.gone {
		return
	}
	it.cancel = nil
	if !p.skip {
		was := it.state.status
		it.state = it.state.step(it.rules, now, p.res.status, p.res.output)
		if was != it.state.status {
			r.cfg.Log.Info("check status", "check", it.check.ID, "instance", it.check.InstanceID,
				"from", was, "to", it.state.status, "output", firstLine(it.state.output))
		}
	}
	it.runAt = r.began.Add(nextRun(it.started.Sub(r.began), now.Sub(r.began), it.phase, it.rules.interval))
	r.settle(it, now)
}

// firstLine is what of an output fits into a line of the log.
func firstLine(s string) string {
	for i, c := range s {
		if c == '\n' || i > 200 {
			return s[:i]
		}
	}
	return s
}

// write reports the item's status.
func (r *Runner) write(it *item) {
	it.writing = true
	r.writing++
	id, status, output := it.check.ID, it.state.status, it.state.output
	r.workers.Go(func() {
		ctx, cancel := context.WithTimeout(r.ctx, reportTimeout)
		defer cancel()
		err := r.cfg.Report(ctx, r.cfg.Node, id, status, output)
		r.meter.reported(err)
		select {
		case r.reports <- reported{it, status, output, err}:
		case <-r.ctx.Done():
		}
	})
}

func (r *Runner) reported(p reported) {
	r.writing--
	it, now := p.it, time.Now()
	it.writing = false
	if it.gone {
		return
	}
	if p.err != nil {
		it.backoff = min(max(2*it.backoff, retryLeast), retryMost)
		it.retryAt = now.Add(it.backoff - rand.N(it.backoff/4+1))
		if !r.failing {
			r.cfg.Log.Warn("check status could not be written; trying again", "check", it.check.ID, "err", p.err)
		}
		r.failing = true
	} else {
		it.state = it.state.written(now, p.status, p.output)
		it.backoff, it.retryAt, r.failing = 0, time.Time{}, false
	}
	r.settle(it, now)
}

// reap has the item's instance deregistered, unless that is under way or the instance is
// in maintenance, and says when to look again; zero for not at all.
func (r *Runner) reap(it *item, now time.Time) time.Time {
	id := it.check.InstanceID
	if id == "" || r.cfg.Reap == nil {
		return time.Time{}
	}
	if it.reapAt.After(now) {
		return it.reapAt
	}
	if _, ok := r.reaping[id]; ok || len(r.reaping) >= r.cfg.MaxReports {
		return now.Add(time.Second)
	}
	i := r.cfg.View.Load().Instance(r.cfg.Node, id)
	if i == nil {
		return time.Time{}
	}
	if i.State == registry.Maintenance {
		// Taken out by hand: the clock begins when it is put back.
		it.state.criticalSince = now
		return now.Add(it.rules.deregisterAfter)
	}
	reason := fmt.Sprintf("check %s was critical for %v: %s", it.check.ID, it.rules.deregisterAfter, firstLine(it.state.output))
	r.reaping[id] = struct{}{}
	r.workers.Go(func() {
		ctx, cancel := context.WithTimeout(r.ctx, reportTimeout)
		defer cancel()
		err := r.cfg.Reap(ctx, r.cfg.Node, id, reason)
		r.meter.reaped(err)
		select {
		case r.reaps <- reaped{it, id, err}:
		case <-r.ctx.Done():
		}
	})
	return now.Add(time.Second)
}

func (r *Runner) reaped(p reaped) {
	delete(r.reaping, p.instance)
	it, now := p.it, time.Now()
	if p.err != nil {
		r.cfg.Log.Warn("critical instance could not be deregistered; trying again", "instance", p.instance, "err", p.err)
		it.reapAt = now.Add(5 * time.Second)
	} else {
		r.cfg.Log.Info("critical instance deregistered", "instance", p.instance, "check", it.check.ID)
		for _, o := range r.items {
			if o.check.InstanceID == p.instance {
				o.reaped = true
			}
		}
	}
	r.settle(it, now)
}
