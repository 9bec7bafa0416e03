package cache

import (
	"time"

	engine "github.com/resolverd/resolverd/cache"
	"github.com/resolverd/resolverd/cache/snapshot"
)

// options is what the directive says.
type options struct {
	zones []string // canonical
	size  engine.Size
	terms engine.Terms
	// bounds are those of the terms for some zones and types.
	bounds []engine.Bound

	prefetch prefetch
	stale    stale
	snapshot time.Duration // how often the cache is written to disk; 0 for never

	noSuccess, noDenial []string // zones whose answers or denials are not kept
	keepTTL             bool
}

// prefetch says which entries are fetched anew before they expire.
type prefetch struct {
	amount  int           // queries that make an entry popular; 0 for no prefetching
	window  time.Duration // the longest gap between them
	percent int           // of the life that remains when it is due
}

// due returns for how long before its expiry an entry of this life is due.
func (p prefetch) due(life time.Duration) time.Duration {
	return (life*time.Duration(p.percent)/100 + time.Second - 1).Truncate(time.Second)
}

// stale says whether and how expired entries are given (RFC 8767).
type stale struct {
	upTo    time.Duration // after expiry; 0 for never
	verify  bool          // ask before giving a stale entry
	timeout time.Duration // how long verify waits; 0 for as long as the upstream takes
	ttl     time.Duration // of the RRs of a stale response
	recheck time.Duration // after a failed refresh before the next
	// preferPositive holds on to an answer against what does not answer the question.
	preferPositive bool
}

const (
	defaultWindow  = time.Minute
	defaultPercent = 10
	defaultStale   = time.Hour
	maxRecheck     = 5 * time.Minute // RFC 8767, section 5
)

func defaults() options {
	return options{
		zones:    []string{"."},
		terms:    engine.DefaultTerms(),
		prefetch: prefetch{window: defaultWindow, percent: defaultPercent},
		snapshot: snapshot.DefaultInterval,
	}
}
