package forward

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// upstream is one endpoint with its connections and its health.
type upstream struct {
	Endpoint
	first transport // UDP for plain DNS, else the only one
	tcp   transport // nil unless plain DNS
	on    *counters

	state     atomic.Uint32 // h.state, for readers without the lock
	backup    bool
	took      atomic.Int64 // smoothed time of replies in ns, 0: unknown
	nextLook  atomic.Int64 // as nextTrial, for [lookEvery]
	nextTrial atomic.Int64 // before this moment (Unix ns) no query is led here first

	mu      sync.Mutex // guards what follows
	h       health
	probing bool
	cause   string // of the last failure
	gone    bool
	stop    context.CancelFunc // ends the prober, nil while there is none
}

func newUpstream(e Endpoint, o *Options) *upstream {
	u := &upstream{Endpoint: e, on: &counters{to: e, o: o.Observer}}
	if o.connect != nil {
		u.first, u.tcp = o.connect(e)
		return u
	}
	d := dialer{addr: e.Addr, source: o.SourceAddr}
	switch e.Transport {
	case TLS:
		u.first = newStream(d, tlsFor(e, o), o, u.on)
	case HTTPS:
		u.first = newDoH(e, tlsFor(e, o), d, o, u.on)
	case QUIC:
		u.first = newDoQ(e, tlsFor(e, o), d, o, u.on)
	default:
		u.first = newUDP(d, o, u.on)
		u.tcp = newStream(d, nil, o, u.on)
	}
	return u
}

// tlsFor returns the TLS configuration of one endpoint: its name, or its address, must
// be in the certificate.
func tlsFor(e Endpoint, o *Options) *tls.Config {
	cfg := new(tls.Config)
	if o.TLS != nil {
		cfg = o.TLS.Clone()
	}
	if cfg.MinVersion < tls.VersionTLS12 {
		cfg.MinVersion = tls.VersionTLS12
	}
	switch {
	case e.ServerName != "":
		cfg.ServerName = e.ServerName
	case cfg.ServerName == "":
		cfg.ServerName = e.Addr.Addr().WithZone("").String()
	}
	if cfg.ClientSessionCache == nil {
		cfg.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	}
	return cfg
}

// close ends the prober and drops idle connections. Exchanges under way go on.
func (u *upstream) close() {
	u.mu.Lock()
	u.gone = true
	if u.stop != nil {
		u.stop()
	}
	u.mu.Unlock()
	u.first.close()
	if u.tcp != nil {
		u.tcp.close()
	}
}

// answered takes note of a reply.
func (u *upstream) answered(rcode int, took time.Duration) {
	u.on.o.Answered(u.Endpoint, rcode, took)
	u.sampled(took)
}

// sampled takes note of how long a reply took, or would take at least. Of several at one
// time one may be lost.
func (u *upstream) sampled(took time.Duration) {
	u.took.Store(int64(smooth(time.Duration(u.took.Load()), took)))
}

// claimLook says whether this query may look how fast an upstream is that is not the
// fastest: one in each [lookEvery] is.
func (u *upstream) claimLook(now time.Time) bool {
	at := u.nextLook.Load()
	return now.UnixNano() >= at && u.nextLook.CompareAndSwap(at, now.Add(lookEvery).UnixNano())
}

// State returns what is believed of the upstream now.
func (u *upstream) State() State { return State(u.state.Load()) }

// ask asks the upstream once, over TCP where tcp says so, and again over TCP where UDP
// brought a reply that is cut or not to be trusted. It returns the protocol of the
// reply, "udp" or "tcp".
func (u *upstream) ask(ctx context.Context, r *request, g *reply, tcp bool) (string, error) {
	if u.tcp == nil {
		proto := "tcp"
		if u.Transport == QUIC {
			proto = "udp"
		}
		return proto, u.first.exchange(ctx, r, g)
	}
	if tcp {
		return "tcp", u.tcp.exchange(ctx, r, g)
	}
	err := u.first.exchange(ctx, r, g)
	if err == nil && !g.truncated() || err != nil && !errors.Is(err, errDoubtful) {
		return "udp", err
	}
	return u.askWhole(ctx, r, g, err)
}

// askWhole asks over TCP after UDP brought err, or a reply in g that is cut.
func (u *upstream) askWhole(ctx context.Context, r *request, g *reply, err error) (string, error) {
	u.on.o.Retried(u.Endpoint)
	again, whole := *r, reply{}
	again.into = nil // what there is stays whole
	terr := u.tcp.exchange(ctx, &again, &whole)
	if terr != nil && err == nil {
		// TCP is closed to us: the client gets what there is, with TC set.
		return "udp", nil
	}
	*g = whole
	return "tcp", terr
}

// claimTrial says whether this query may be led to an upstream on trial: one in each
// interval is.
func (u *upstream) claimTrial(now time.Time, interval time.Duration) bool {
	at := u.nextTrial.Load()
	return now.UnixNano() >= at && u.nextTrial.CompareAndSwap(at, now.Add(interval).UnixNano())
}

// probeVerdict turns the outcome of a probe into an event.
func probeVerdict(rcode int, err error) event {
	switch {
	case err != nil, rcode == dns.RcodeServerFailure:
		return probeBad
	case rcode == dns.RcodeSuccess, rcode == dns.RcodeNameError:
		return probeGood
	}
	return probeUnsure
}

// Status is one upstream as seen from outside.
type Status struct {
	Endpoint Endpoint
	State    State
	// Fails is how many probes failed in a row.
	Fails uint32
	// Cause says why State is not Up; "" if it is.
	Cause string
}

func (u *upstream) status() Status {
	u.mu.Lock()
	defer u.mu.Unlock()
	return Status{Endpoint: u.Endpoint, State: u.h.state, Fails: u.h.fails, Cause: u.cause}
}

// isOurs says whether f, which may be nil, calls the address ours.
func isOurs(f func(netip.AddrPort) bool, a netip.AddrPort) bool { return f != nil && f(a) }
