package forward

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Query is a client's query on its way through the pool.
type Query struct {
	// Msg is the query as the client sent it. It is not changed.
	Msg *dns.Msg
	// TCP says that the client came over a stream.
	TCP bool
	// Refuse, if not nil, says of an endpoint that it must not be asked, because it leads
	// back to where the query came from.
	Refuse func(Endpoint) bool
	// Attempted, if not nil, is called after each attempt, before the next. It is not
	// called for a query that shared the outcome of an identical one.
	Attempted func(Attempt)
	// Begun, if not nil and of this pool, is the first attempt, which was made already.
	Begun *Begun
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
// to the next; when all have been heard, the last such reply is the response. Identical
// queries under way at one time are one query to the upstreams. The error is
// [ErrUnsupported] or [ErrQuery] for a query that cannot be forwarded, else a [*Failure].
func (p *Pool) Exchange(ctx context.Context, q Query) (Response, error) {
	sent, err := outgoing(q.Msg, p.o.EDNSSize)
	if err != nil {
		return Response{}, err
	}
	wire, err := pack(sent)
	if err != nil {
		return Response{}, err
	}
	l, ok := scan(wire)
	if !ok {
		return Response{}, ErrQuery
	}
	j := &job{wire: wire, question: l.question, tcp: p.o.ForceTCP || q.TCP && !p.o.PreferUDP, refuse: q.Refuse, unpack: true}
	if q.Begun != nil && q.Begun.pool == p {
		j.begun = q.Begun
	}
	if q.Attempted != nil {
		copied := *sent
		copied.Id = q.Msg.Id
		j.attempted = func(u *upstream, g reply, proto string, err error, began time.Time) {
			if g.msg != nil {
				g.msg.Id = q.Msg.Id
			}
			q.Attempted(Attempt{To: u.Endpoint, Local: g.local, Proto: proto, Sent: &copied, Reply: g.msg, Err: err, Began: began})
		}
	}
	if err := p.share(ctx, j); err != nil {
		return Response{}, err
	}
	m := j.got.msg
	if m == nil {
		m = new(dns.Msg)
		if err := m.Unpack(j.got.wire); err != nil {
			return Response{}, &Failure{Upstream: j.from, Attempts: 1, Err: errMalformed}
		}
	}
	finish(q.Msg, m)
	return Response{Msg: m, From: j.from}, nil
}

// job is a query on its way through the pool, and what became of it. It is handed on by
// reference: the goroutine of a query begins with a small stack, and growing that is
// dear.
type job struct {
	wire      []byte // for the upstreams, id 0
	question  int    // end of its question section
	tcp       bool   // over a stream
	refuse    func(Endpoint) bool
	unpack    bool   // the reply is wanted as a message
	into      []byte // memory for the reply, may be nil
	attempted func(u *upstream, g reply, proto string, err error, began time.Time)
	begun     *Begun // the first attempt, or nil

	r    request
	got  reply // as it came but for its id
	from Endpoint
}

var jobs = sync.Pool{New: func() any { return new(job) }}

// worse is a reply with an RCODE of Failover, kept while others are asked.
type worse struct {
	got  reply
	from Endpoint
	all  []*upstream // who gave such
}

// lead asks the upstreams in ups, in order, until one answers.
func (p *Pool) lead(ctx context.Context, j *job, ups []*upstream) error {
	if j.begun != nil {
		ups = j.begun.first(ups)
	}
	var (
		now   = time.Now()
		end   = now.Add(p.o.Budget)
		most  = p.o.attempts(len(ups))
		fails int
		last  *Failure
		poor  *worse
		r     = &j.r
	)
	if j.begun != nil {
		end = j.begun.at.Add(p.o.Budget)
	}
	if d, ok := ctx.Deadline(); ok && d.Before(end) {
		end = d
	}
	*r = request{wire: j.wire, question: j.question, read: p.o.ReadTimeout, end: end, unpack: j.unpack, into: j.into}
	if p.o.MixCase {
		r.wire = mixCase(j.wire, j.question)
	}
	for i := 0; fails < most; i++ {
		if i > 0 {
			now = time.Now()
		}
		if !now.Before(end) || ctx.Err() != nil {
			break
		}
		if i >= len(ups) && poor != nil {
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
		j.got, j.from = reply{}, u.Endpoint
		var (
			proto string
			err   error
			wait  time.Duration
		)
		if p.o.Hedge > 0 && i+1 < len(ups) && ups[i+1].State() == Up {
			wait = p.hedging.query()
		}
		begun := i == 0 && j.begun != nil
		switch {
		case begun:
			u, now, j.from = j.begun.up, j.begun.at, j.begun.up.Endpoint
			proto, err = j.begun.resume(ctx, p, j)
		case wait > 0:
			u, now, proto, err = p.race(ctx, j, u, ups[i+1], wait)
		default:
			proto, err = p.attempt(ctx, u, r, &j.got, j.tcp)
		}
		if j.attempted != nil {
			j.attempted(u, j.got, proto, err, now)
		}
		if err != nil {
			fails++
			last = &Failure{Upstream: u.Endpoint, Attempts: i + 1, Err: err}
			if begun && errors.Is(err, j.begun.err) {
				continue // which was counted and learnt
			}
			if ctx.Err() != nil && time.Now().Before(end) {
				break // the client went away: that says nothing about the upstream
			}
			p.o.Observer.Failed(u.Endpoint, isTimeout(err))
			p.learn(u, failed, Reason(err))
			continue
		}
		if p.o.MixCase {
			j.restoreCase()
		}
		if !begun { // which was counted
			took := time.Since(now)
			u.answered(j.got.layout.rcode, took)
			if p.o.Hedge > 0 {
				p.hedging.sample(took)
			}
		}
		if p.goesOn(j.got.layout.rcode) {
			poor = poor.add(j, u)
			r.into = nil // the reply stays whole
			continue
		}
		p.learn(u, answered, "")
		if poor != nil {
			for _, o := range poor.all {
				p.learn(o, outdone, "answered "+dns.RcodeToString[poor.got.layout.rcode])
			}
		}
		return nil
	}
	switch {
	case poor != nil:
		j.got, j.from = poor.got, poor.from
		return nil
	case last == nil && ctx.Err() != nil:
		return &Failure{Err: ctx.Err()}
	case last == nil:
		return &Failure{Err: context.DeadlineExceeded}
	}
	return last
}

// restoreCase gives the reply the name as the client wrote it, and with it all names that
// point there.
func (j *job) restoreCase() {
	if j.got.layout.question == j.question {
		copy(j.got.wire[headerSize:j.question], j.wire[headerSize:j.question])
		j.got.msg = nil // unpacked before
	}
}

// add keeps the job's reply, which u gave.
func (w *worse) add(j *job, u *upstream) *worse {
	if w == nil {
		w = new(worse)
	}
	w.got, w.from, w.all = j.got, u.Endpoint, append(w.all, u)
	return w
}

// attempt asks u, and once more without EDNS where u knows none.
func (p *Pool) attempt(ctx context.Context, u *upstream, r *request, g *reply, stream bool) (string, error) {
	proto, err := u.ask(ctx, r, g, stream)
	if err != nil || !g.layout.knowsNoEDNS() {
		return proto, err
	}
	return p.attemptBare(ctx, u, r, g, stream, proto)
}

// attemptBare asks once more without EDNS, if that may be, after a reply in g.
func (p *Pool) attemptBare(ctx context.Context, u *upstream, r *request, g *reply, stream bool, proto string) (string, error) {
	bare := withoutOPT(r.wire)
	if bare == nil {
		return proto, nil
	}
	again, second := *r, reply{}
	again.wire, again.into = bare, nil
	if how, err := u.ask(ctx, &again, &second, stream); err == nil {
		*g, proto = second, how
	}
	// Else the refusal is a reply, after all.
	return proto, nil
}

// WireQuery is a client's query in wire form.
type WireQuery struct {
	// Wire is the query as the client sent it. It is neither changed nor kept.
	Wire []byte
	// TCP and Refuse are as in [Query].
	TCP    bool
	Refuse func(Endpoint) bool
}

// WireResponse is what the client gets.
type WireResponse struct {
	// Wire is the response, in the memory of dst if that was large enough. It is not cut
	// to what the client takes.
	Wire []byte
	// From is who gave it.
	From Endpoint
}

// ExchangeWire is [Pool.Exchange] for a plain query that is a packet already, and relays
// the reply without taking it apart. dst is memory for the response and may be nil; 4 KB
// suffice nearly always. Where the query is not plain ([plainQuery]: opcode QUERY, one
// question, at most one OPT of version 0 without options and nothing else) the error is
// [ErrNotPlain], and nobody was asked.
func (p *Pool) ExchangeWire(ctx context.Context, q WireQuery, dst []byte) (WireResponse, error) {
	l, ok := plainQuery(q.Wire)
	if !ok {
		return WireResponse{}, ErrNotPlain
	}
	buf := borrow(l.question + optSize)
	defer giveBack(buf)
	sent := append((*buf)[:0], q.Wire[:l.question]...)
	sent[0], sent[1] = 0, 0
	sent[2] &= bitRD
	sent[3] &= bitAD | bitCD
	sent[11] = 1
	sent = appendOPT(sent, p.o.EDNSSize, l.opts > 0 && doOf(q.Wire, l.opt))
	j := jobs.Get().(*job)
	*j = job{wire: sent, question: l.question, tcp: p.o.ForceTCP || q.TCP && !p.o.PreferUDP, refuse: q.Refuse, into: dst}
	defer j.free()
	if err := p.share(ctx, j); err != nil {
		return WireResponse{}, err
	}
	wire, err := finishWire(q.Wire, &l, j.got.wire, &j.got.layout)
	if err != nil {
		return WireResponse{}, &Failure{Upstream: j.from, Attempts: 1, Err: errMalformed}
	}
	return WireResponse{Wire: wire, From: j.from}, nil
}

// free gives the job back.
func (j *job) free() {
	*j = job{}
	jobs.Put(j)
}

// finishRare does by messages what [finishWire] cannot do in place.
func finishRare(req, reply []byte) ([]byte, error) {
	var in, out dns.Msg
	if err := in.Unpack(req); err != nil {
		return nil, err
	}
	if err := out.Unpack(reply); err != nil {
		return nil, err
	}
	finish(&in, &out)
	if opt, asked := out.IsEdns0(), in.IsEdns0(); opt != nil {
		opt.SetVersion(0)
		opt.SetUDPSize(asked.UDPSize())
		opt.SetDo(asked.Do())
	}
	out.Compress = true
	return out.Pack()
}

// finishWire is finish for packets: it makes the reply, laid out as g says, the response
// to the query req, laid out as q says. The reply's memory is used.
func finishWire(req []byte, q *layout, reply []byte, g *layout) ([]byte, error) {
	if g.question != q.question || g.opts > 0 && !g.lastOPT() || g.rcode > int(maskRcode) {
		// Something rare: options to be looked through, an empty question section.
		return finishRare(req, reply)
	}
	asked := q.opts > 0
	copy(reply, req[:2])
	copy(reply[headerSize:], req[headerSize:q.question])
	reply[3] &^= bitZ // must be zero in all messages (RFC 1035, section 4.1.1)
	if req[3]&bitAD == 0 && !(asked && doOf(req, q.opt)) {
		reply[3] &^= bitAD
	}
	extra := binary.BigEndian.Uint16(reply[10:])
	if g.opts > 0 {
		reply = reply[:g.opt]
		extra--
	}
	if asked && g.opts > 0 {
		reply = appendOPT(reply, binary.BigEndian.Uint16(req[q.opt+3:]), doOf(req, q.opt))
		extra++
	}
	binary.BigEndian.PutUint16(reply[10:], extra)
	return reply, nil
}
