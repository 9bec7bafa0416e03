package forward

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// Pool is a set of upstreams with one policy. It is safe for concurrent use.
type Pool struct {
	o       Options
	turn    atomic.Uint64
	ups     atomic.Pointer[[]*upstream]
	life    context.Context // ends at Close
	end     context.CancelFunc
	work    sync.WaitGroup // probers and the follower
	flights *flights
	boot    *Pool // asked for host names, or nil
	hedging hedging
	start   sync.Once

	mu     sync.Mutex              // guards what follows, and changes of ups
	good   map[string][]Endpoint   // by file: the last set that was not empty
	empty  map[string]bool         // by file: it named nobody when last read; logged once
	hosts  map[string][]netip.Addr // by host name: the last addresses that were found
	closed bool
}

// Open returns a pool for o. It opens no socket and reads no file: [Pool.Start] does.
func Open(o Options) (*Pool, error) {
	if o.Observer == nil {
		o.Observer = Silent{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Sources = slices.Clone(o.Sources)
	o.Failover = slices.Clone(o.Failover)
	if err := o.Validate(); err != nil {
		return nil, err
	}
	p := &Pool{o: o, flights: newFlights(), good: map[string][]Endpoint{}, empty: map[string]bool{}}
	p.hosts = maps.Clone(o.Hosts)
	if p.hosts == nil {
		p.hosts = map[string][]netip.Addr{}
	}
	if len(o.Bootstrap) > 0 {
		b := Default()
		b.Name, b.Sources, b.Policy, b.SourceAddr, b.Ours, b.Log = o.Name+" bootstrap", o.Bootstrap, Sequential, o.SourceAddr, o.Ours, o.Log
		boot, err := Open(b)
		if err != nil {
			return nil, err
		}
		p.boot = boot
	}
	p.hedging.h.share = o.Hedge
	p.life, p.end = context.WithCancel(context.Background())
	p.ups.Store(new([]*upstream))
	p.mu.Lock()
	p.install()
	p.mu.Unlock()
	return p, nil
}

// Start reads the files and follows them from here on. Further calls do nothing. It
// must come when Options.Ours knows the listeners, or our own address would be taken
// for a good upstream.
func (p *Pool) Start() {
	p.start.Do(func() {
		p.startHosts()
		var files []string
		for _, s := range p.o.Sources {
			if s.File != "" && !slices.Contains(files, s.File) {
				files = append(files, s.File)
			}
		}
		if len(files) == 0 {
			return
		}
		p.refresh()
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.closed {
			return
		}
		f := follow(files, p.o.Log)
		p.work.Go(func() { f.run(p.life, p.refresh) })
	})
}

// startHosts begins to follow the host names among the sources.
func (p *Pool) startHosts() {
	if p.boot != nil {
		p.boot.Start()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	var all []string
	for _, s := range p.o.Sources {
		if s.File != "" || s.Host == "" || slices.Contains(all, s.Host) {
			continue
		}
		all = append(all, s.Host)
		known := p.hosts[s.Host]
		p.work.Go(func() { p.followHost(s.Host, known) })
	}
}

// Close ends probes and the following of files, waits for them, and drops idle
// connections. A query under way goes on, and a later one is still answered, over a
// connection of its own: a plugin instance that is being replaced may still have some.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	for _, u := range *p.ups.Load() {
		u.close()
	}
	p.mu.Unlock()
	p.end()
	p.work.Wait()
	if p.boot != nil {
		return p.boot.Close()
	}
	return nil
}

// Upstreams returns the upstreams in the order written.
func (p *Pool) Upstreams() []Status {
	var all []Status
	for _, u := range *p.ups.Load() {
		all = append(all, u.status())
	}
	return all
}

// candidates returns the upstreams to ask, in order; at least one, or an error. free
// says that refuse kept none out.
func (p *Pool) candidates(refuse func(Endpoint) bool) (ups []*upstream, free bool, err error) {
	all := *p.ups.Load()
	if len(all) == 0 {
		return nil, false, ErrNoUpstream
	}
	free = true
	if refuse != nil && slices.ContainsFunc(all, func(u *upstream) bool { return refuse(u.Endpoint) }) {
		free = false
		fit := make([]*upstream, 0, len(all))
		for _, u := range all {
			if !refuse(u.Endpoint) {
				fit = append(fit, u)
			}
		}
		if all = fit; len(all) == 0 {
			return nil, false, ErrLoop
		}
	}
	if len(all) == 1 && all[0].State() != Down {
		return all, free, nil
	}
	cands := make([]candidate, len(all))
	for i, u := range all {
		cands[i] = candidate{state: u.State(), backup: u.backup, took: time.Duration(u.took.Load())}
	}
	at := order(p.o.Policy, cands, p.turn.Add(1), rand.IntN)
	if len(at) == 0 {
		p.o.Observer.AllDown()
		if p.o.FailFast {
			return nil, false, ErrAllDown
		}
		// Perhaps it is the probes that do not get through.
		at = rand.Perm(len(all))
	}
	out := make([]*upstream, len(at))
	for i, j := range at {
		out[i] = all[j]
	}
	p.promote(out)
	return out, free, nil
}

// promote leads one query in a while to an upstream on trial, which would else wait for
// the failure of all others, or to one that is not the fastest.
func (p *Pool) promote(ups []*upstream) {
	for i, u := range ups {
		if p.o.Policy == Fastest && u.State() == Up && u.backup == ups[0].backup && u.claimLook(time.Now()) && i > 0 {
			copy(ups[1:i+1], ups[:i])
			ups[0] = u
			return
		}
		if i > 0 && u.State() == Trial && u.claimTrial(time.Now(), p.o.ProbeInterval) {
			copy(ups[1:i+1], ups[:i])
			ups[0] = u
			return
		}
	}
}

// learn takes note of an event, and starts the upstream's prober where one is due.
func (p *Pool) learn(u *upstream, ev event, cause string) {
	if ev == answered && u.State() == Up {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	before := u.h
	var probe bool
	u.h, probe = u.h.step(ev, rule{maxFails: p.o.MaxFails, countQueries: p.o.CountQueries})
	u.state.Store(uint32(u.h.state))
	if u.h.state == Up {
		u.cause = ""
	} else if cause != "" {
		u.cause = cause
	}
	if before.state != u.h.state {
		p.note(u, before.state)
	}
	if !probe || u.probing || u.gone {
		return
	}
	ctx, stop := context.WithCancel(p.life)
	if ctx.Err() != nil {
		stop()
		return
	}
	u.probing, u.stop = true, stop
	p.work.Go(func() {
		defer stop()
		p.probe(ctx, u)
	})
}

// note logs a change of health. The caller holds u.mu.
func (p *Pool) note(u *upstream, before State) {
	attrs := []any{"pool", p.o.Name, "upstream", u.Endpoint.String(), "state", u.h.state.String(), "before", before.String()}
	if u.cause != "" {
		attrs = append(attrs, "cause", u.cause)
	}
	switch {
	case u.h.state == Down && u.h.fails > 0 && before != Trial:
		p.o.Log.Warn("upstream is down", attrs...)
	case u.h.state == Up && before == Down:
		p.o.Log.Info("upstream is up again", attrs...)
	default:
		p.o.Log.Debug("upstream changed state", attrs...)
	}
}

// probe asks the upstream until it is Up, or ctx ends.
func (p *Pool) probe(ctx context.Context, u *upstream) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			u.mu.Lock()
			u.probing, u.stop = false, nil
			u.mu.Unlock()
			return
		case <-pause.C:
		}
		ev, cause := p.ping(ctx, u)
		if ctx.Err() == nil {
			if ev != probeGood {
				p.o.Observer.ProbeFailed(u.Endpoint)
			}
			p.learn(u, ev, cause)
		}
		u.mu.Lock()
		if u.h.state == Up {
			u.probing, u.stop = false, nil
			u.mu.Unlock()
			return
		}
		u.mu.Unlock()
		pause.Reset(p.o.ProbeInterval)
	}
}

// ping sends one probe.
func (p *Pool) ping(ctx context.Context, u *upstream) (event, string) {
	m := new(dns.Msg)
	m.SetQuestion(p.o.ProbeName, dns.TypeNS)
	m.Id = 0
	m.RecursionDesired = !p.o.ProbeNoRecursion
	wire, err := pack(m)
	if err != nil {
		return probeUnsure, Reason(err)
	}
	end := time.Now().Add(p.o.ProbeTimeout)
	var got reply
	_, err = u.ask(ctx, &request{wire: wire, question: len(wire), read: p.o.ProbeTimeout, dial: end, end: end}, &got, p.o.ForceTCP)
	ev := probeVerdict(got.layout.rcode, err)
	switch {
	case err != nil:
		return ev, Reason(err)
	case ev != probeGood:
		return ev, fmt.Sprintf("probe answered %s", dns.RcodeToString[got.layout.rcode])
	}
	return ev, ""
}
