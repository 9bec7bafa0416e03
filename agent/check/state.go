package check

import (
	"time"

	"github.com/resolverd/resolverd/registry"
)

// Defaults of a definition's unset fields.
const (
	DefaultInterval = 5 * time.Second
	DefaultTimeout  = time.Second
	DefaultFailures = 3

	minInterval   = 100 * time.Millisecond
	minTimeout    = time.Millisecond
	minDeregister = time.Second
	// MaxOutput bounds a check's output, in octets.
	MaxOutput = 4096
)

// rules are a definition's numbers with the defaults filled in.
type rules struct {
	interval, timeout, ttl time.Duration
	successes              int // results in a row to become passing
	warnings, failures     int // failures in a row to become warning, critical
	deregisterAfter        time.Duration
	outputEvery            time.Duration // between two writes of nothing but an output
}

func rulesOf(d *registry.CheckDefinition, c *Config) rules {
	r := rules{
		interval:    or(d.Interval.Std(), c.Interval),
		timeout:     or(d.Timeout.Std(), c.Timeout),
		ttl:         max(d.TTL.Std(), minInterval),
		successes:   or(d.SuccessBeforePassing, 1),
		failures:    or(d.FailuresBeforeCritical, DefaultFailures),
		outputEvery: c.OutputEvery,
	}
	r.interval, r.timeout = max(r.interval, minInterval), max(r.timeout, minTimeout)
	r.warnings = or(d.FailuresBeforeWarning, r.failures)
	if d.Kind == registry.CheckAlias {
		// What it copies has been through its own thresholds.
		r.successes, r.warnings, r.failures = 1, 1, 1
	}
	if d.DeregisterCriticalAfter > 0 {
		r.deregisterAfter = max(d.DeregisterCriticalAfter.Std(), minDeregister)
	}
	return r
}

func or[T int | time.Duration](v, otherwise T) T {
	if v > 0 {
		return v
	}
	return otherwise
}

// state is where one check stands. It is a value: step returns the next one.
type state struct {
	status registry.Status // decided, as it should stand in the registry
	output string          // of the last result that agreed with status
	ran    bool            // there was such a result

	successes, failures int // results in a row, up to the threshold and no further

	// criticalSince is when the check was first found critical, by a probe or for want
	// of a report; zero while it is not. A restart of the agent starts it anew: time
	// that nobody watched counts against nobody.
	criticalSince time.Time

	// What the registry shows.
	shown       registry.Status
	shownOutput string
	shownRan    bool
	writtenAt   time.Time // when an output was last written
}

// begin is the state of a check that the registry shows as c, before it ran here.
func begin(c *registry.Check) state {
	s := state{status: c.Status, output: c.Output, ran: c.Ran}
	if !s.status.Valid() {
		s.status = registry.Critical
	}
	return s.show(c)
}

// show enters what the registry shows now.
func (s state) show(c *registry.Check) state {
	s.shown, s.shownOutput, s.shownRan = c.Status, c.Output, c.Ran
	return s
}

// actions are what is to be done about a state, and when to look again.
type actions struct {
	write   bool      // the registry should be told now
	writeAt time.Time // or at this time; zero for never
	reap    bool      // the instance has been critical for too long
	reapAt  time.Time // or will have been at this time; zero for never
}

// step enters a result. A result counts towards a change of status, or confirms the one
// that there is:
//
//   - passing and warning count as successes, critical as a failure;
//   - a check that is not critical becomes warning with a warning, at once;
//   - successes in a row bring it up from critical, and from warning to passing;
//   - failures in a row make it warning, then critical, and never better than it was.
func (s state) step(r rules, at time.Time, status registry.Status, output string) state {
	next := s.status
	if status == registry.Critical {
		s.successes, s.failures = 0, min(s.failures+1, max(r.failures, r.warnings))
		switch {
		case s.failures >= r.failures:
			next = registry.Critical
		case s.failures >= r.warnings:
			next = next.Worse(registry.Warning)
		}
	} else {
		s.successes, s.failures = min(s.successes+1, r.successes), 0
		if s.successes >= r.successes || next.Worse(status) == status {
			next = status
		}
	}
	agrees := next == status || next != s.status
	s.status = next
	if agrees {
		s.output, s.ran = output, true
	}
	return s.since(at, status == registry.Critical)
}

// expire makes a ttl check critical that nobody reported for.
func (s state) expire(at time.Time, output string) state {
	s.status, s.output, s.ran = registry.Critical, output, true
	s.successes, s.failures = 0, 0
	return s.since(at, true)
}

// told enters a status that somebody else wrote, as the report of a ttl check is.
func (s state) told(at time.Time, c *registry.Check) state {
	s = s.show(c)
	s.status, s.output, s.ran = c.Status, c.Output, c.Ran
	s.writtenAt = at
	return s.since(at, c.Ran)
}

func (s state) since(at time.Time, found bool) state {
	switch {
	case s.status != registry.Critical:
		s.criticalSince = time.Time{}
	case found && s.criticalSince.IsZero():
		s.criticalSince = at
	}
	return s
}

// written enters that the registry was told at this time.
func (s state) written(at time.Time, status registry.Status, output string) state {
	s.shown, s.shownOutput, s.shownRan, s.writtenAt = status, output, true, at
	return s
}

// due says what the state asks for at this time. A status is written at once, an output
// alone when the last one has stood for a while: a body that holds a clock must not
// become a write every five seconds.
func (s state) due(r rules, at time.Time) actions {
	var a actions
	switch {
	case !s.ran:
	case s.status != s.shown || !s.shownRan:
		a.write = true
	case s.output != s.shownOutput:
		if t := s.writtenAt.Add(r.outputEvery); s.writtenAt.IsZero() || !t.After(at) {
			a.write = true
		} else {
			a.writeAt = t
		}
	}
	if r.deregisterAfter > 0 && !s.criticalSince.IsZero() {
		if t := s.criticalSince.Add(r.deregisterAfter); t.After(at) {
			a.reapAt = t
		} else {
			a.reap = true
		}
	}
	return a
}
