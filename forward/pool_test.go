package forward

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// script is what a fake upstream does: how long it takes, and then an RCODE or an error.
type script struct {
	after time.Duration
	rcode int
	err   error // nil: a reply; os.ErrDeadlineExceeded: never, so the deadline counts
}

// fake is a transport with a script for queries and one for probes.
type fake struct {
	mu      sync.Mutex
	query   script
	probe   script
	log     *[]string   // names of the upstreams in the order asked, without probes
	logging *sync.Mutex // guards log
	name    string
	probes  atomic.Int32
	closed  atomic.Bool
}

func (f *fake) set(query, probe script) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.query, f.probe = query, probe
}

func (f *fake) close() { f.closed.Store(true) }

func (f *fake) exchange(ctx context.Context, r *request, g *reply) error {
	f.mu.Lock()
	s := f.query
	query := new(dns.Msg)
	if err := query.Unpack(r.wire); err != nil {
		panic(err)
	}
	if query.Question[0].Qtype == dns.TypeNS {
		s = f.probe
		f.probes.Add(1)
	} else {
		f.logging.Lock()
		*f.log = append(*f.log, f.name)
		f.logging.Unlock()
	}
	f.mu.Unlock()
	wait := s.after
	late := time.Until(r.deadline())
	if errors.Is(s.err, os.ErrDeadlineExceeded) || wait > late {
		wait, s.err = late, os.ErrDeadlineExceeded
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait):
	}
	if s.err != nil {
		return s.err
	}
	wire, err := new(dns.Msg).SetRcode(query, s.rcode).Pack()
	if err != nil {
		panic(err)
	}
	if r.take(g, wire, 0, false) != accept {
		panic("not the reply")
	}
	return nil
}

var (
	ok       = script{rcode: dns.RcodeSuccess}
	servfail = script{rcode: dns.RcodeServerFailure}
	refused  = script{rcode: dns.RcodeRefused}
	silent   = script{err: os.ErrDeadlineExceeded}
	broken   = script{err: errors.New("connection reset")}
)

// bench is a pool over fakes named a, b, c ...
type bench struct {
	*Pool
	up      map[string]*fake
	asked   []string
	logging sync.Mutex // guards asked
}

func newBench(t *testing.T, change func(*Options), queries ...script) *bench {
	t.Helper()
	b := &bench{up: map[string]*fake{}}
	o := Default()
	o.Policy = Sequential
	for i, s := range queries {
		name := string(rune('a' + i))
		e := Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), 53)}
		o.Sources = append(o.Sources, Source{Endpoint: e})
		b.up[name] = &fake{query: s, probe: s, log: &b.asked, logging: &b.logging, name: name}
	}
	o.connect = func(e Endpoint) (transport, transport) {
		f := b.up[string(rune('a'+e.Addr.Addr().As4()[3]-1))]
		return f, f
	}
	if change != nil {
		change(&o)
	}
	p, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	b.Pool = p
	return b
}

// ask sends one query and returns the outcome, who was asked, and how long it took.
func (b *bench) ask(ctx context.Context) (outcome, asked string, took time.Duration) {
	b.asked = nil
	began := time.Now()
	resp, err := b.Exchange(ctx, Query{Msg: new(dns.Msg).SetQuestion("example.org.", dns.TypeA)})
	took = time.Since(began)
	asked = strings.Join(b.asked, "")
	if err != nil {
		var f *Failure
		if !errors.As(err, &f) {
			return err.Error(), asked, took
		}
		return "failure: " + Reason(err), asked, took
	}
	return dns.RcodeToString[resp.Msg.Rcode], asked, took
}

func (b *bench) states() string {
	var out []string
	for _, s := range b.Upstreams() {
		out = append(out, s.State.String())
	}
	return strings.Join(out, " ")
}

func TestExchange(t *testing.T) {
	slow := script{after: 1500 * time.Millisecond}
	tests := []struct {
		name    string
		change  func(*Options)
		queries []script
		outcome string
		asked   string
		took    time.Duration
	}{
		{"the first answers", nil, []script{ok, ok}, "NOERROR", "a", 0},
		{"NXDOMAIN is an answer", nil, []script{{rcode: dns.RcodeNameError}, ok}, "NXDOMAIN", "a", 0},
		{"slow, within the timeout", nil, []script{slow, ok}, "NOERROR", "a", 1500 * time.Millisecond},
		{"silent, then good", nil, []script{silent, ok}, "NOERROR", "ab", 2 * time.Second},
		{"broken, then good", nil, []script{broken, ok}, "NOERROR", "ab", 0},
		{"SERVFAIL, then good", nil, []script{servfail, ok}, "NOERROR", "ab", 0},
		{"all poor: the last counts, each asked once", nil, []script{servfail, refused, servfail}, "SERVFAIL", "abc", 0},
		{"one poor, others silent: not asked again", nil, []script{silent, servfail}, "SERVFAIL", "ab", 2 * time.Second},
		{"poor, then silent", nil, []script{refused, silent}, "REFUSED", "ab", 2 * time.Second},
		{"all broken: twice each", nil, []script{broken, broken}, "failure: connection failed", "abab", 0},
		{"all silent: the budget ends it", nil, []script{silent, silent, silent}, "failure: timeout", "abc", 5 * time.Second},
		{"one attempt", func(o *Options) { o.MaxAttempts = 1 }, []script{broken, ok}, "failure: connection failed", "a", 0},
		{"one attempt, failover is not a failed one", func(o *Options) { o.MaxAttempts = 1 }, []script{servfail, ok}, "NOERROR", "ab", 0},
		{"unbounded attempts are bounded", func(o *Options) { o.MaxAttempts = -1 }, []script{broken}, "failure: connection failed", strings.Repeat("a", 64), 0},
		{"no failover", func(o *Options) { o.Failover = nil }, []script{servfail, ok}, "SERVFAIL", "a", 0},
		{"failover for NXDOMAIN only", func(o *Options) { o.Failover = []int{dns.RcodeNameError} }, []script{{rcode: dns.RcodeNameError}, servfail}, "SERVFAIL", "ab", 0},
		{"shorter timeout", func(o *Options) { o.ReadTimeout = 100 * time.Millisecond }, []script{silent, ok}, "NOERROR", "ab", 100 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, tt.change, tt.queries...)
				defer b.Close()
				outcome, asked, took := b.ask(t.Context())
				if outcome != tt.outcome || asked != tt.asked || took != tt.took {
					t.Errorf("got %q from %q in %s, want %q from %q in %s", outcome, asked, took, tt.outcome, tt.asked, tt.took)
				}
			})
		})
	}
}

func TestCallersDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil, silent, ok)
		defer b.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if outcome, asked, took := b.ask(ctx); outcome != "failure: timeout" || asked != "a" || took != 300*time.Millisecond {
			t.Errorf("got %q from %q in %s", outcome, asked, took)
		}
		// A client that goes away says nothing about the upstream.
		gone, leave := context.WithCancel(t.Context())
		c := newBench(t, nil, silent, ok)
		defer c.Close()
		time.AfterFunc(100*time.Millisecond, leave)
		if outcome, _, took := c.ask(gone); outcome != "failure: canceled" || took != 100*time.Millisecond {
			t.Errorf("got %q in %s", outcome, took)
		}
		if s := c.states(); s != "up up" {
			t.Errorf("states %s", s)
		}
	})
}

func TestSickUpstreamIsAvoidedAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil, silent, ok)
		defer b.Close()
		if _, asked, _ := b.ask(t.Context()); asked != "ab" {
			t.Fatalf("asked %q", asked)
		}
		// The very next query goes past it, though no probe has come back yet.
		if outcome, asked, took := b.ask(t.Context()); outcome != "NOERROR" || asked != "b" || took != 0 {
			t.Errorf("next: %q from %q in %s", outcome, asked, took)
		}
		if s := b.states(); s != "suspect up" {
			t.Errorf("states %s, want suspect up", s)
		}
		// Three probes of 1 s, half a second apart, are more than max_fails 2.
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if s := b.states(); s != "down up" {
			t.Errorf("states %s, want down up", s)
		}
		n := b.up["a"].probes.Load()
		b.up["a"].set(ok, ok)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if s := b.states(); s != "up up" {
			t.Errorf("states %s, want up up", s)
		}
		if more := b.up["a"].probes.Load() - n; more > 2 {
			t.Errorf("%d more probes until it was believed", more)
		}
		if _, asked, _ := b.ask(t.Context()); asked != "a" {
			t.Errorf("asked %q after it came back", asked)
		}
		n = b.up["a"].probes.Load()
		time.Sleep(time.Minute)
		if more := b.up["a"].probes.Load() - n; more != 0 {
			t.Errorf("%d probes of a healthy upstream in a minute", more)
		}
	})
}

func TestProbesThatRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// An authoritative upstream refuses the root's NS. It lost one query.
		b := newBench(t, nil, silent, ok)
		defer b.Close()
		b.up["a"].set(silent, refused)
		b.ask(t.Context())
		b.up["a"].set(ok, refused)
		time.Sleep(time.Second)
		synctest.Wait()
		if s := b.states(); s != "trial up" {
			t.Fatalf("states %s, want trial up", s)
		}
		// One query is led to it, and decides.
		if outcome, asked, _ := b.ask(t.Context()); outcome != "NOERROR" || asked != "a" {
			t.Errorf("got %q from %q", outcome, asked)
		}
		if s := b.states(); s != "up up" {
			t.Errorf("states %s, want up up", s)
		}

		// One that refuses everything is tried now and then, never trusted.
		c := newBench(t, nil, silent, ok)
		defer c.Close()
		c.up["a"].set(silent, refused)
		c.ask(t.Context())
		c.up["a"].set(refused, refused)
		time.Sleep(time.Second)
		tried := 0
		for range 100 {
			outcome, asked, _ := c.ask(t.Context())
			if outcome != "NOERROR" {
				t.Fatalf("a client got %q", outcome)
			}
			tried += strings.Count(asked, "a")
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
		}
		if tried == 0 || tried > 4 {
			t.Errorf("tried %d times in a second of 100 queries", tried)
		}
	})
}

func TestOutdoneUpstreamIsProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil, servfail, ok)
		defer b.Close()
		b.ask(t.Context())
		if s := b.states(); s != "suspect up" {
			t.Errorf("states %s: SERVFAIL where another answers raises no suspicion", s)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if s := b.states(); s != "down up" {
			t.Errorf("states %s: SERVFAIL to the probe counts as healthy", s)
		}
		// SERVFAIL for one name from all is the name's fault.
		c := newBench(t, nil, servfail, servfail)
		defer c.Close()
		c.ask(t.Context())
		if s := c.states(); s != "up up" {
			t.Errorf("states %s", s)
		}
	})
}

func TestAllDown(t *testing.T) {
	for _, failFast := range []bool{false, true} {
		t.Run(fmt.Sprintf("failfast %t", failFast), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, func(o *Options) { o.FailFast = failFast }, silent, silent)
				defer b.Close()
				b.ask(t.Context())
				time.Sleep(10 * time.Second)
				synctest.Wait()
				if s := b.states(); s != "down down" {
					t.Fatalf("states %s", s)
				}
				// Queries pass though probes do not.
				b.up["a"].set(ok, silent)
				b.up["b"].set(ok, silent)
				outcome, asked, took := b.ask(t.Context())
				if failFast {
					if outcome != "failure: "+ErrAllDown.Error() || asked != "" || took != 0 {
						t.Errorf("got %q from %q in %s", outcome, asked, took)
					}
					return
				}
				if outcome != "NOERROR" || len(asked) != 1 {
					t.Errorf("got %q from %q", outcome, asked)
				}
				if s := b.states(); !strings.Contains(s, "up") {
					t.Errorf("states %s after an answer", s)
				}
			})
		})
	}
}

func TestCountedQueries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(o *Options) { o.CountQueries, o.FailFast, o.MaxAttempts = true, true, 1 }, broken)
		defer b.Close()
		b.up["a"].set(broken, silent)
		for range 3 {
			b.ask(t.Context())
		}
		if _, asked, _ := b.ask(t.Context()); asked != "" {
			t.Errorf("asked %q, want nobody after three failures", asked)
		}
	})
}

func TestNoHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(o *Options) { o.MaxFails = 0 }, silent, ok)
		defer b.Close()
		for range 5 {
			if _, asked, _ := b.ask(t.Context()); asked != "ab" {
				t.Errorf("asked %q", asked)
			}
		}
		if n := b.up["a"].probes.Load(); n != 0 {
			t.Errorf("%d probes", n)
		}
	})
}

func TestRefusedEndpoints(t *testing.T) {
	b := newBench(t, nil, ok, ok)
	defer b.Close()
	self := (*b.ups.Load())[0].Endpoint
	q := Query{Msg: new(dns.Msg).SetQuestion("example.org.", dns.TypeA), Refuse: func(e Endpoint) bool { return e == self }}
	resp, err := b.Exchange(t.Context(), q)
	if err != nil || resp.From == self {
		t.Errorf("from %s, error %v", resp.From, err)
	}
	q.Refuse = func(Endpoint) bool { return true }
	if _, err := b.Exchange(t.Context(), q); !errors.Is(err, ErrLoop) {
		t.Errorf("error %v, want ErrLoop", err)
	}
}

func TestClosedPoolStillAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil, silent, ok)
		b.ask(t.Context()) // starts a prober
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if !b.up["a"].closed.Load() || !b.up["b"].closed.Load() {
			t.Error("connections are kept")
		}
		n := b.up["a"].probes.Load()
		if outcome, _, _ := b.ask(t.Context()); outcome != "NOERROR" {
			t.Errorf("got %q", outcome)
		}
		time.Sleep(time.Minute)
		if b.up["a"].probes.Load() != n {
			t.Error("it is still probed")
		}
	})
}

func TestAttemptsAreReported(t *testing.T) {
	b := newBench(t, nil, broken, servfail, ok)
	defer b.Close()
	req := new(dns.Msg).SetQuestion("example.org.", dns.TypeA)
	var got []string
	_, err := b.Exchange(t.Context(), Query{Msg: req, Attempted: func(a Attempt) {
		s := a.To.Label() + " "
		if a.Reply != nil {
			s += dns.RcodeToString[a.Reply.Rcode]
			if a.Reply.Id != req.Id {
				t.Errorf("reply has id %d, want the client's %d", a.Reply.Id, req.Id)
			}
		} else {
			s += a.Err.Error()
		}
		if a.Sent.Id != req.Id || a.Proto != "udp" || a.Began.IsZero() {
			t.Errorf("attempt %+v", a)
		}
		got = append(got, s)
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"192.0.2.1:53 connection reset", "192.0.2.2:53 SERVFAIL", "192.0.2.3:53 NOERROR"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}
}

func TestFailureExplains(t *testing.T) {
	up := Endpoint{Addr: netip.MustParseAddrPort("192.0.2.1:53")}
	tests := []struct {
		f    Failure
		code uint16
		text string
	}{
		{Failure{Err: ErrNoUpstream}, 22, "no upstream is known"},
		{Failure{Err: ErrLoop}, 22, "every upstream is this resolver itself"},
		{Failure{Upstream: up, Attempts: 2, Err: os.ErrDeadlineExceeded}, 22, "upstream 192.0.2.1:53: timeout"},
		{Failure{Upstream: up, Attempts: 1, Err: fmt.Errorf("%w from x", errMalformed)}, 23, "upstream 192.0.2.1:53: malformed reply"},
		{Failure{Upstream: up, Attempts: 1, Err: errors.New("secret detail")}, 23, "upstream 192.0.2.1:53: connection failed"},
	}
	for _, tt := range tests {
		if code, text := tt.f.Explain(); code != tt.code || text != tt.text {
			t.Errorf("%v: %d %q, want %d %q", tt.f.Err, code, text, tt.code, tt.text)
		}
	}
}

func TestValidate(t *testing.T) {
	good := Default()
	good.Sources = []Source{{File: "/etc/resolv.conf"}}
	if err := good.Validate(); err != nil {
		t.Errorf("default: %v", err)
	}
	bad := Options{Sources: []Source{{}}, Expire: -1, MaxAge: -1, MaxIdle: -1, Failover: []int{0}, EDNSSize: 100, ProbeName: "relative"}
	err := bad.Validate()
	if err == nil {
		t.Fatal("nothing is wrong")
	}
	for _, want := range []string{
		"invalid upstream", "expire", "max_age", "max_idle_conns", "read_timeout", "budget",
		"NoError", "EDNS size", "doh_method", "health_check", "invalid domain name",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not reported:\n%v", want, err)
		}
	}
}

func TestLimiter(t *testing.T) {
	l := Limiter{Max: 2}
	for i, want := range []bool{true, true, false} {
		if got := l.Enter(); got != want {
			t.Errorf("query %d is admitted: %t, want %t", i+1, got, want)
		}
	}
	l.Leave()
	if !l.Enter() {
		t.Error("no room after one left")
	}
}
