package ratelimit

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/gaissmai/bart"
)

// Limiter decides on responses. It is immutable but for its table and its counts, and
// safe for concurrent use.
type Limiter struct {
	settings Settings
	limits   [Classes]limit
	exempt   bart.Lite
	table    *Table
	counts   *Counts
}

// New returns a limiter by valid settings. Limiters of one table share its buckets.
func New(s Settings, t *Table, c *Counts) *Limiter {
	l := &Limiter{settings: s, table: t, counts: c}
	for class, rate := range s.Rates {
		l.limits[class] = newLimit(rate, s.Burst)
	}
	for _, p := range s.Exempt {
		l.exempt.Insert(p)
	}
	return l
}

// Exempt says whether the client is never limited. An invalid address is.
func (l *Limiter) Exempt(client netip.Addr) bool {
	client = client.Unmap().WithZone("")
	return !client.IsValid() || !l.settings.Loopback && client.IsLoopback() || l.exempt.Lookup(client)
}

// Take takes a token for a response of the class to a client that is not exempt, and
// counts nothing. It neither allocates nor locks.
func (l *Limiter) Take(client netip.Addr, class Class, now time.Time) Verdict {
	rate := l.limits[class]
	if rate.cost == 0 {
		return Pass
	}
	var key [9]byte
	if client = client.Unmap(); client.Is4() {
		a := client.As4()
		prefix := binary.BigEndian.Uint32(a[:]) &^ (1<<(32-l.settings.Bits4) - 1)
		binary.BigEndian.PutUint64(key[:], uint64(prefix))
		key[8] = byte(class)
	} else {
		a := client.As16()
		prefix := binary.BigEndian.Uint64(a[:]) &^ (1<<(64-l.settings.Bits6) - 1)
		binary.BigEndian.PutUint64(key[:], prefix)
		key[8] = byte(class) | 0x80
	}
	return l.table.take(key[:], rate, uint64(now.Sub(base)/tick)&clockMask, l.settings.Slip)
}

// Limit decides on a response of the class to any client, and counts it.
func (l *Limiter) Limit(client netip.Addr, class Class, now time.Time) Verdict {
	if l.Exempt(client) {
		l.counts.Add(class, Exempted)
		return Pass
	}
	v := l.Take(client, class, now)
	l.counts.Add(class, Result(v))
	return v
}

// Count counts a response on which Take, or nobody, decided.
func (l *Limiter) Count(class Class, r Result) { l.counts.Add(class, r) }

// base is where the clock of all tables begins; it is monotonic.
var base = time.Now()
