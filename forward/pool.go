package forward

import (
	"context"
	"fmt"
	"log/slog"
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
	o     Options
	turn  atomic.Uint64
	ups   atomic.Pointer[[]*upstream]
	life  context.Context // ends at Close
	end   context.CancelFunc
	work  sync.WaitGroup // probers and the follower
	start sync.Once

	mu     sync.Mutex            // guards what follows, and changes of ups
	good   map[string][]Endpoint // by file: the last set that was not empty
	empty  map[string]bool       // by file: it named nobody when last read; logged once
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
	p := &Pool{o: o, good: map[string][]Endpoint{}, empty: map[string]bool{}}
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

// Query is a client's query on its way through the pool.
type Query struct {
	// Msg is the query as the client sent it. It is not changed.
	Msg *dns.Msg
	// TCP says that the client came over a stream.
	TCP bool
	// Refuse, if not nil, says of an endpoint that it must not be asked, because it leads
	// back to where the query came from.
	Refuse func(Endpoint) bool
	// Attempted, if not nil, is called after each attempt, before the next.
	Attempted func(Attempt)
}

// Attempt is one upstream asked for one query.
type Attempt struct {
	To Endpoint
	// Local is our end; not valid where no connection came about.
	Local netip.AddrPort
	// Proto is what the reply came over, "udp" or "tcp".
	Proto string
	// Sent is the query as sent, with the client's id in place of the one on the wire.
	// It must not be changed.
	Sent *dns.Msg
	// Reply is what came back, with the client's id; nil if nothing did. It must not be
	// changed nor kept.
	Reply *dns.Msg
	// Err says why Reply is nil.
	Err error
	// Began is when the upstream was asked.
	Began time.Time
}

// Response is what the client gets.
type Response struct {
	// Msg belongs to the caller.
	Msg *dns.Msg
	// From is who gave it.
	From Endpoint
}

// Exchange asks upstreams for the query until one answers. An RCODE of Failover leads
// to the next; when all have been heard, the last such reply is the response. The error
// is [ErrUnsupported] or [ErrQuery] for a query that cannot be forwarded, else a
// [*Failure].
func (p *Pool) Exchange(ctx context.Context, q Query) (Response, error) {
	sent, err := outgoing(q.Msg, p.o.EDNSSize)
	if err != nil {
		return Response{}, err
	}
	wire, err := pack(sent)
	if err != nil {
		return Response{}, err
	}
	ups, err := p.candidates(q.Refuse)
	if err != nil {
		return Response{}, &Failure{Err: err}
	}

	var (
		began  = time.Now()
		end    = began.Add(p.o.Budget)
		most   = p.o.attempts(len(ups))
		fails  int
		last   = &Failure{Err: context.DeadlineExceeded}
		poor   Response    // a reply with an RCODE of Failover
		outrun []*upstream // who gave such
	)
	if d, ok := ctx.Deadline(); ok && d.Before(end) {
		end = d
	}
	r := &request{msg: sent, wire: wire, read: p.o.ReadTimeout, end: end}
	for i := 0; fails < most; i++ {
		now := time.Now()
		if !now.Before(end) || ctx.Err() != nil {
			break
		}
		if i >= len(ups) && poor.Msg != nil {
			break // all were asked, and there is a reply: asking again would only take time
		}
		u := ups[i%len(ups)]
		if i > 0 && len(ups) > 1 {
			p.o.Observer.Failover(ups[(i-1)%len(ups)].Endpoint)
		}
		// A stalled handshake must leave time for another attempt.
		r.dial = end
		if most > 1 {
			r.dial = now.Add(min(end.Sub(now), p.o.Budget) / 2)
		}
		got, proto, err := p.attempt(ctx, u, r, q.TCP)
		if got.msg != nil {
			got.msg.Id = q.Msg.Id
		}
		if q.Attempted != nil {
			copied := *sent
			copied.Id = q.Msg.Id
			q.Attempted(Attempt{To: u.Endpoint, Local: got.local, Proto: proto, Sent: &copied, Reply: got.msg, Err: err, Began: now})
		}
		if err != nil {
			fails++
			last = &Failure{Upstream: u.Endpoint, Attempts: i + 1, Err: err}
			if ctx.Err() != nil && time.Now().Before(end) {
				break // the client went away: that says nothing about the upstream
			}
			p.o.Observer.Failed(u.Endpoint, isTimeout(err))
			p.learn(u, failed, Reason(err))
			continue
		}
		p.o.Observer.Answered(u.Endpoint, got.msg.Rcode, time.Since(now))
		if slices.Contains(p.o.Failover, got.msg.Rcode) {
			poor = Response{Msg: got.msg, From: u.Endpoint}
			outrun = append(outrun, u)
			continue
		}
		p.learn(u, answered, "")
		for _, o := range outrun {
			p.learn(o, outdone, "answered "+dns.RcodeToString[poor.Msg.Rcode])
		}
		finish(q.Msg, got.msg)
		return Response{Msg: got.msg, From: u.Endpoint}, nil
	}
	if poor.Msg != nil {
		finish(q.Msg, poor.Msg)
		return poor, nil
	}
	if last.Attempts == 0 && ctx.Err() != nil {
		last.Err = ctx.Err()
	}
	return Response{}, last
}

// attempt asks u, and once more without EDNS where u knows none.
func (p *Pool) attempt(ctx context.Context, u *upstream, r *request, tcp bool) (reply, string, error) {
	stream := p.o.ForceTCP || tcp && !p.o.PreferUDP
	got, proto, err := u.ask(ctx, r, stream)
	if err != nil || !knowsNoEDNS(got.msg) {
		return got, proto, err
	}
	bare := plainDNS(r.msg)
	if bare == nil {
		return got, proto, nil
	}
	again := *r
	again.msg = bare
	if again.wire, err = pack(bare); err != nil {
		return got, proto, err
	}
	second, how, err := u.ask(ctx, &again, stream)
	if err == nil {
		return second, how, nil
	}
	// The refusal is a reply, after all.
	return got, proto, nil
}

// candidates returns the upstreams to ask, in order; at least one, or an error.
func (p *Pool) candidates(refuse func(Endpoint) bool) ([]*upstream, error) {
	all := *p.ups.Load()
	if len(all) == 0 {
		return nil, ErrNoUpstream
	}
	if refuse != nil {
		fit := make([]*upstream, 0, len(all))
		for _, u := range all {
			if !refuse(u.Endpoint) {
				fit = append(fit, u)
			}
		}
		if all = fit; len(all) == 0 {
			return nil, ErrLoop
		}
	}
	states := make([]State, len(all))
	for i, u := range all {
		states[i] = u.State()
	}
	at := order(p.o.Policy, states, p.turn.Add(1), rand.IntN)
	if len(at) == 0 {
		p.o.Observer.AllDown()
		if p.o.FailFast {
			return nil, ErrAllDown
		}
		// Perhaps it is the probes that do not get through.
		at = rand.Perm(len(all))
	}
	out := make([]*upstream, len(at))
	for i, j := range at {
		out[i] = all[j]
	}
	p.promote(out)
	return out, nil
}

// promote leads one query in a while to an upstream on trial, which would else wait for
// the failure of all others.
func (p *Pool) promote(ups []*upstream) {
	for i, u := range ups {
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
	got, _, err := u.ask(ctx, &request{msg: m, wire: wire, read: p.o.ProbeTimeout, dial: end, end: end}, p.o.ForceTCP)
	ev := probeVerdict(got.msg, err)
	switch {
	case err != nil:
		return ev, Reason(err)
	case ev != probeGood:
		return ev, fmt.Sprintf("probe answered %s", dns.RcodeToString[got.msg.Rcode])
	}
	return ev, ""
}
