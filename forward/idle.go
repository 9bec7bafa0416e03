package forward

import (
	"net"
	"sync"
	"time"
)

// maxIdle bounds the idle connections of one kind to one upstream where the
// configuration names no bound.
const maxIdle = 256

// pooled is a connection that may be used again. It belongs to one query at a time.
type pooled struct {
	net.Conn
	created time.Time
	used    time.Time
	uses    int
}

// idle keeps connections between queries.
type idle struct {
	expire time.Duration // unused for so long: closed; 0 keeps none
	maxAge time.Duration // 0: no bound
	max    int           // at most so many
	uses   int           // 0: no bound
	pick   func(n int) int

	mu     sync.Mutex // guards what follows
	conns  []*pooled  // by time of last use, oldest first
	timer  *time.Timer
	closed bool
}

// newIdle takes the settings of Options; pick draws one of n, nil takes the youngest.
func newIdle(expire, maxAge time.Duration, max, uses int, pick func(int) int) *idle {
	if max <= 0 || max > maxIdle {
		max = maxIdle
	}
	return &idle{expire: expire, maxAge: maxAge, max: max, uses: uses, pick: pick}
}

// take returns an idle connection that is neither expired nor too old, or nil.
func (i *idle) take(now time.Time) *pooled {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.sweep(now)
	n := len(i.conns)
	if n == 0 {
		return nil
	}
	at := n - 1
	if i.pick != nil {
		at = i.pick(n)
	}
	c := i.conns[at]
	copy(i.conns[at:], i.conns[at+1:])
	i.conns[n-1] = nil
	i.conns = i.conns[:n-1]
	return c
}

// put keeps c, or closes it where there is no room or its time is over.
func (i *idle) put(c *pooled, now time.Time) {
	c.used = now
	c.uses++
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed || i.expire <= 0 || len(i.conns) >= i.max || i.uses > 0 && c.uses >= i.uses || i.old(c, now) {
		_ = c.Close()
		return
	}
	i.conns = append(i.conns, c)
	if i.timer == nil {
		i.timer = time.AfterFunc(i.expire, i.tick)
	}
}

func (i *idle) old(c *pooled, now time.Time) bool {
	return now.Sub(c.used) >= i.expire || i.maxAge > 0 && now.Sub(c.created) >= i.maxAge
}

// sweep closes what is old. The caller holds mu.
func (i *idle) sweep(now time.Time) {
	kept := i.conns[:0]
	for _, c := range i.conns {
		if i.old(c, now) {
			_ = c.Close()
			continue
		}
		kept = append(kept, c)
	}
	clear(i.conns[len(kept):])
	i.conns = kept
}

func (i *idle) tick() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.timer = nil
	if i.closed {
		return
	}
	i.sweep(time.Now())
	if len(i.conns) > 0 {
		i.timer = time.AfterFunc(i.expire, i.tick)
	}
}

// close closes what is idle; what is put from here on is closed too.
func (i *idle) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	if i.timer != nil {
		i.timer.Stop()
	}
	for _, c := range i.conns {
		_ = c.Close()
	}
	i.conns = nil
}
