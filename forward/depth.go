package forward

import "time"

const (
	// maxDepth is how many queries wait on one connection at most.
	maxDepth = 64
	// depthPause is how long a connection that broke with several queries on it keeps the
	// upstream from being trusted with more.
	depthPause = time.Minute
)

// depth is how many queries may be under way at a time on one connection to an upstream.
// It begins with one, doubles with the replies on connections that outlived a reply, and
// falls back when the upstream closes a connection or lets it hang while several wait:
// some answer one query a connection and drop what else they were sent (RFC 7766,
// section 6.2.1.1 wants them all answered). The zero value is one.
type depth struct {
	doubled int // times
	until   time.Time
}

func (d depth) room() int { return 1 << d.doubled }

// replied is the depth after the nth reply on a connection.
func (d depth) replied(n int, now time.Time) depth {
	if n > 1 && d.room() < maxDepth && !now.Before(d.until) {
		d.doubled++
	}
	return d
}

// broke is the depth after a connection failed those who waited on it.
func (d depth) broke(waiting int, now time.Time) depth {
	if waiting < 2 {
		return d // as it may at any time (RFC 7766, section 6.2.4)
	}
	return depth{doubled: d.doubled / 2, until: now.Add(depthPause)}
}
