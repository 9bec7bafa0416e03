package answer

import "context"

// Policy is what the producer of a response asks of the cache above it. The cache puts
// one into the context before it calls the next plugin, and reads it when the response
// is written; a producer sets fields before it writes. It belongs to one fetch and is
// not safe for concurrent use.
type Policy struct {
	// NoMinimum keeps the response no longer than its TTLs say: no minimum TTL applies,
	// and a TTL of 0 is not cached.
	NoMinimum bool
	// NoStale forbids to repeat the response after its TTL ran out (RFC 8767 is off).
	NoStale bool
	// NoStore forbids to keep the response at all. Queries that wait for the same fetch
	// still get it.
	NoStore bool
}

type policyKey struct{}

// WithPolicy returns a context that carries p.
func WithPolicy(ctx context.Context, p *Policy) context.Context {
	return context.WithValue(ctx, policyKey{}, p)
}

// PolicyFrom returns the Policy of the fetch, or nil where no cache is above.
func PolicyFrom(ctx context.Context) *Policy {
	p, _ := ctx.Value(policyKey{}).(*Policy)
	return p
}

// Exact asks the cache above, if there is one, to hold to the TTLs as they are: no
// minimum and nothing stale.
func Exact(ctx context.Context) {
	if p := PolicyFrom(ctx); p != nil {
		p.NoMinimum, p.NoStale = true, true
	}
}

// Join adds what another response asks, whose data is part of this one's. A nil Policy
// ignores it.
func (p *Policy) Join(o Policy) {
	if p == nil {
		return
	}
	p.NoMinimum = p.NoMinimum || o.NoMinimum
	p.NoStale = p.NoStale || o.NoStale
	p.NoStore = p.NoStore || o.NoStore
}
