package forward

import "sync/atomic"

// MaxInFlight bounds the queries under way of a directive that names no bound.
const MaxInFlight = 8192

// Limiter bounds how many queries are under way at once. The zero value admits
// [MaxInFlight].
type Limiter struct {
	// Max is set before use; 0 means [MaxInFlight].
	Max int64
	now atomic.Int64
}

// Enter admits one more query, or says that there is no room. Whoever was admitted
// calls Leave.
func (l *Limiter) Enter() bool {
	limit := l.Max
	if limit <= 0 {
		limit = MaxInFlight
	}
	if l.now.Add(1) > limit {
		l.now.Add(-1)
		return false
	}
	return true
}

// Leave ends what Enter admitted.
func (l *Limiter) Leave() { l.now.Add(-1) }
