package cache

import (
	"encoding/binary"
	"math"
	"sync/atomic"
	"time"
)

// Entry is one stored response. What it says never changes: a refresh stores another
// one. Any number of goroutines may read it, also after it was evicted.
type Entry struct {
	key    []byte
	packet []byte
	ttls   []uint16
	stored time.Time
	life   time.Duration

	kind    Kind
	noStale bool
	answers bool
	ede     []EDE
	tag     string

	freq    atomic.Uint32 // hits since the last look of the eviction, at most maxFreq
	hits    atomic.Uint32 // hits without a gap, for Popular
	lastHit atomic.Int64  // nanoseconds after stored
	retry   atomic.Int64  // nanoseconds after stored, before which no refresh is tried

	// guarded by the shard's mu
	hash       uint64
	seq        uint64
	prev, next *Entry
	main       bool
}

const (
	maxFreq = 3
	// overhead is what an entry costs beside its octets: the struct, a map's slot, slice
	// rounding and its share of the ghost queue.
	overhead = 384
)

func (e *Entry) cost() int64 {
	n := len(e.key) + len(e.packet) + 2*len(e.ttls) + len(e.tag) + overhead
	for _, x := range e.ede {
		n += 32 + len(x.Text)
	}
	return int64(n)
}

// Kind returns what the response says.
func (e *Entry) Kind() Kind { return e.kind }

// Answers says whether the response holds an RRset of the asked type.
func (e *Entry) Answers() bool { return e.answers }

// Authenticated says whether the response came with the AD bit.
func (e *Entry) Authenticated() bool { return e.packet[3]&0x20 != 0 }

// Stored returns when the response was stored.
func (e *Entry) Stored() time.Time { return e.stored }

// Life returns for how long it was stored.
func (e *Entry) Life() time.Duration { return e.life }

// Expires returns the moment from which it is stale.
func (e *Entry) Expires() time.Time { return e.stored.Add(e.life) }

// Stale says whether it has expired.
func (e *Entry) Stale(now time.Time) bool { return now.Sub(e.stored) >= e.life }

// EDE returns the Extended DNS Errors that came with the response. They are shared.
func (e *Entry) EDE() []EDE { return e.ede }

// Tag returns what the caller of Store gave along.
func (e *Entry) Tag() string { return e.tag }

// Len returns the length of the packet in octets.
func (e *Entry) Len() int { return len(e.packet) }

// Key returns the entry's key. It is shared.
func (e *Entry) Key() []byte { return e.key }

// NoStale says whether the entry is never given after it expired.
func (e *Entry) NoStale() bool { return e.noStale }

// usable says whether it may be given to a client, stale by at most maxStale.
func (e *Entry) usable(now time.Time, maxStale time.Duration) bool {
	age := now.Sub(e.stored)
	if age < e.life {
		return true
	}
	// A failure is no data that RFC 8767 would have us repeat.
	return !e.noStale && e.kind != Failure && age-e.life < maxStale
}

// Touch tells the eviction that the entry was used. Find does it; who repeats the packet
// without Find must, or the hottest names look cold.
func (e *Entry) Touch() {
	if f := e.freq.Load(); f < maxFreq {
		e.freq.CompareAndSwap(f, f+1)
	}
}

// Popular counts one query at now and says whether at least amount were counted with no
// gap of longer than window between them. It is exact enough for prefetching: concurrent
// calls may lose a count.
func (e *Entry) Popular(now time.Time, window time.Duration, amount int) bool {
	at := int64(now.Sub(e.stored))
	last := e.lastHit.Swap(at)
	if time.Duration(at-last) > window {
		e.hits.Store(1)
		return amount <= 1
	}
	return int64(e.hits.Add(1)) >= int64(amount)
}

// count is Popular for n queries, without the question.
func (e *Entry) count(n uint32, now time.Time, window time.Duration) {
	at := int64(now.Sub(e.stored))
	if last := e.lastHit.Swap(at); time.Duration(at-last) > window {
		e.hits.Store(n)
		return
	}
	e.hits.Add(n)
}

// LowerCase says whether the name was in lower case in the response as it came.
func (e *Entry) LowerCase() bool {
	name := keyName(e.key)
	return string(e.packet[headerLen:headerLen+len(name)]) == string(name)
}

// Waiting says whether a refresh of the entry failed so recently that none is to be
// tried yet (RFC 8767, section 5: the failure recheck timer).
func (e *Entry) Waiting(now time.Time) bool {
	return int64(now.Sub(e.stored)) < e.retry.Load()
}

// Retry sets the failure recheck timer: no refresh for d from now. A d of 0 clears it.
func (e *Entry) Retry(now time.Time, d time.Duration) {
	if d <= 0 {
		e.retry.Store(math.MinInt64)
		return
	}
	e.retry.Store(int64(now.Sub(e.stored) + d))
}

// inherit takes over how popular the entry was that e replaces.
func (e *Entry) inherit(old *Entry) {
	e.freq.Store(old.freq.Load())
	e.hits.Store(old.hits.Load())
	e.lastHit.Store(old.lastHit.Load() - int64(e.stored.Sub(old.stored)))
}

// Reply is what a copy of a packet takes from the query it answers.
type Reply struct {
	// ID, RD and CD are copied from the query (RFC 1035, section 4.1.1; RFC 4035,
	// section 3.2.2).
	ID     uint16
	RD, CD bool
	// AD says that the query had AD or DO set. Without it the copy's AD is clear
	// (RFC 6840, section 5.8).
	AD bool
	// Question is QNAME in wire form as the client spelt it. One that is not the entry's
	// name, or nil, leaves the spelling of the query that fetched it.
	Question []byte
	// KeepTTL gives the TTLs as they were stored instead of counting them down.
	KeepTTL bool
	// StaleTTL is the TTL in seconds of every RR of a stale copy.
	StaleTTL uint32
}

// AppendReply appends a copy of the packet to dst and returns the extended slice. It
// does not allocate where dst has room for Len octets. The packet holds no OPT.
func (e *Entry) AppendReply(dst []byte, r Reply, now time.Time) []byte {
	n := len(dst)
	dst = append(dst, e.packet...)
	p := dst[n:]
	binary.BigEndian.PutUint16(p, r.ID)
	p[2] &^= 0x01
	if r.RD {
		p[2] |= 0x01
	}
	if !r.AD {
		p[3] &^= 0x20
	}
	p[3] &^= 0x10
	if r.CD {
		p[3] |= 0x10
	}
	if name := keyName(e.key); len(r.Question) == len(name) && equalFold(r.Question, name) {
		copy(p[headerLen:], r.Question)
	}
	age := now.Sub(e.stored)
	if age >= e.life {
		for _, o := range e.ttls {
			binary.BigEndian.PutUint32(p[o:], r.StaleTTL)
		}
		return dst
	}
	if r.KeepTTL || age < time.Second {
		return dst
	}
	passed := uint32(age / time.Second)
	for _, o := range e.ttls {
		ttl := binary.BigEndian.Uint32(p[o:])
		binary.BigEndian.PutUint32(p[o:], ttl-min(ttl, passed))
	}
	return dst
}

// equalFold compares name with low, which is in lower case.
func equalFold(name, low []byte) bool {
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != low[i] {
			return false
		}
	}
	return true
}
