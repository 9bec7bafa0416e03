package corefile

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// maxStreams bounds the TCP and TLS connections that clients may keep for their next
	// query, of all listeners together. What comes on others is answered, and they are
	// closed (RFC 7766, section 6.2.3): neither memory nor descriptors, which queries to
	// upstreams need too, are for a client to use up.
	maxStreams = 8192
	// streamIdle is after how long without a query a connection is taken for closed: more
	// than CoreDNS's idle timeout. One without any query is closed by CoreDNS in seconds.
	streamIdle = 15 * time.Second
	// sweepEvery bounds how often those are looked for.
	sweepEvery = time.Second
)

// crowd knows the connections that asked something lately. It is safe for concurrent use.
type crowd struct {
	most int

	mu    sync.Mutex // guards what follows
	heard map[netip.AddrPort]time.Time
	swept time.Time
}

// streams are those of the process: they outlive a Corefile.
var streams = &crowd{most: maxStreams, heard: map[netip.AddrPort]time.Time{}}

// stays notes a query and says whether its connection may be kept.
func (c *crowd) stays(client netip.AddrPort, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.heard[client]; !ok && len(c.heard) >= c.most {
		if now.Sub(c.swept) < sweepEvery {
			return false
		}
		c.swept = now
		for a, at := range c.heard {
			if now.Sub(at) > streamIdle {
				delete(c.heard, a)
			}
		}
		if len(c.heard) >= c.most {
			return false
		}
	}
	c.heard[client] = now
	return true
}
