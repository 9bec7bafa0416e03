package answer

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/resolverd/resolverd/internal/ratelimit"
)

// Epoch counts the changes of whatever an answer was made from: one service, one
// zone's set of names, one cache namespace. It only grows. Any number of goroutines
// may read it; its owner alone raises it.
type Epoch = atomic.Uint64

// Shareable says how a response that was just written may be repeated.
type Shareable struct {
	// Until is the moment (monotonic) from which the response must be made anew. For a
	// cached response it is the earlier of expiry and the prefetch point, so that
	// prefetch and stale answers remain the cache's business. Never zero.
	Until time.Time
	// Epoch, where not nil, must still read Seen for the response to be repeated.
	Epoch *Epoch
	// Seen is what Epoch read before the data of the answer was read. Reading it
	// afterwards would lose a change that fell between.
	Seen uint64
	// Aging says that the TTLs count down (a cached response). A response of the registry
	// keeps its TTLs.
	Aging bool
	// Since is the moment from which an aging response's TTLs count down, At the one for
	// which they are right as written.
	Since, At time.Time
	// Echo says that the response would be the same for another spelling of QNAME, but
	// for the question and for every name that may be compressed (RFC 3597, section 4) and
	// ends as QNAME does: those follow the spelling. It is only looked at where QNAME came
	// in lower case.
	Echo bool
	// Random says that the response is one of several that are right, chosen at random:
	// it is repeated a bounded number of times, beside others that the chain made.
	Random bool
	// Weights, where not nil, say of each RR in ANSWER, all addresses, with what chance it
	// is the first, and the first of those left, and that a random answer is random in
	// this alone: it may be put in order for each query. They are not changed by anybody.
	Weights []uint32
	// Used, where not nil, is told of n repetitions, soon after them: what the producer
	// counts of its responses, and whether they are still asked for, includes them. It is
	// called by any goroutine and must not block.
	Used func(n uint32)
}

// Verdict collects what the chain says about one response. It belongs to one query
// and is not safe for concurrent use. The nil Verdict accepts and ignores all calls.
type Verdict struct {
	share  Shareable
	shared bool
	veto   string
	watch  []Watch
	limit  Limit
}

// Limit says who bounds how often a response is given, and as what it counts there. The
// zero Limit is nobody.
type Limit struct {
	By    *ratelimit.Limiter
	Class ratelimit.Class
}

// Share declares the response shareable. The last call before the response is
// written counts; a Veto outlives it.
func (v *Verdict) Share(s Shareable) {
	if v == nil || s.Until.IsZero() {
		return
	}
	v.share, v.shared = s, true
}

// Veto forbids repeating the response. who names the plugin, for status and explain.
func (v *Verdict) Veto(who string) {
	if v == nil || v.veto != "" {
		return
	}
	v.veto = who
}

// Shareable returns how the response may be repeated, and whether it may at all.
func (v *Verdict) Shareable() (Shareable, bool) {
	if v == nil || !v.shared || v.veto != "" {
		return Shareable{}, false
	}
	return v.share, true
}

// Vetoed returns who forbade the repetition, or "".
func (v *Verdict) Vetoed() string {
	if v == nil {
		return ""
	}
	return v.veto
}

// Watch asks that repetitions of the response be told. Each call counts.
func (v *Verdict) Watch(w Watch) {
	if v != nil {
		v.watch = append(v.watch, w)
	}
}

// Watches returns what was asked of repetitions.
func (v *Verdict) Watches() []Watch {
	if v == nil {
		return nil
	}
	return v.watch
}

// Limit has each repetition of the response asked for at l.By, who decides what becomes
// of it. The last call counts.
func (v *Verdict) Limit(l Limit) {
	if v != nil {
		v.limit = l
	}
}

// Limited returns who is to be asked for each repetition.
func (v *Verdict) Limited() Limit {
	if v == nil {
		return Limit{}
	}
	return v.limit
}

type verdictKey struct{}

// WithVerdict returns a context that carries v.
func WithVerdict(ctx context.Context, v *Verdict) context.Context {
	return context.WithValue(ctx, verdictKey{}, v)
}

// FromContext returns the Verdict of the query, or nil where nobody listens.
func FromContext(ctx context.Context) *Verdict {
	v, _ := ctx.Value(verdictKey{}).(*Verdict)
	return v
}
