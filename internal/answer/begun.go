package answer

import "context"

type begunKey struct{}

// WithBegun returns a context that carries what somebody who went ahead of the chain has
// learnt for the query: who asks upstreams begins with it.
func WithBegun(ctx context.Context, b any) context.Context {
	return context.WithValue(ctx, begunKey{}, b)
}

// BegunFrom returns what WithBegun was given, or nil.
func BegunFrom(ctx context.Context) any { return ctx.Value(begunKey{}) }
