package cache

import (
	"encoding/binary"
	"math"
	"sync/atomic"
	"time"
)

// Entry is one stored response. What it says never changes: a refresh stores another
// one. Any number of goroutines may read it, also after it was evicted.
//
// There may be millions of entries, so that each octet counts: the struct fills a size
// class of the allocator, and all that has no fixed size is one object without pointers,
// which the collector need not look into.
type Entry struct {
	data []byte // the key, the packet, the offsets of the TTLs in it of two octets each
	rare *rare  // nil nearly always

	stored int64 // nanoseconds since base
	life   int64 // nanoseconds

	lastHit atomic.Int64  // nanoseconds after stored
	retry   atomic.Int64  // nanoseconds after stored, before which no refresh is tried
	freq    atomic.Uint32 // hits since the last look of the eviction, at most maxFreq
	hits    atomic.Uint32 // hits without a gap, for Popular

	keyLen, ttls uint16
	kind         Kind
	noStale      bool
	answers      bool

	// guarded by the shard's mu
	main       bool
	hash       uint64
	seq        uint64
	prev, next *Entry
}

// rare is what few entries have.
type rare struct {
	ede []EDE
	tag string
}

// base is where the entries' clock begins.
var base = time.Now()

func clock(t time.Time) int64 { return int64(t.Sub(base)) }

const (
	maxFreq = 3
	// overhead is what an entry costs beside its octets: the struct (112), its place in the
	// map and in the ghost queue, and what the allocator rounds up.
	overhead = 176
)

func (e *Entry) cost() int64 {
	n := len(e.data) + overhead
	if e.rare != nil {
		n += 64 + len(e.rare.tag)
		for _, x := range e.rare.ede {
			n += 32 + len(x.Text)
		}
	}
	return int64(n)
}

func (e *Entry) key() []byte { return e.data[:e.keyLen:e.keyLen] }

// packet returns the response.
func (e *Entry) packet() []byte { return e.data[e.keyLen : len(e.data)-2*int(e.ttls)] }

// offset returns where TTL i is in the packet.
func (e *Entry) offset(i int) int {
	at := len(e.data) - 2*int(e.ttls) + 2*i
	return int(binary.NativeEndian.Uint16(e.data[at:]))
}

// make fills the entry's data.
func (e *Entry) make(key, packet []byte, ttls []uint16) {
	e.keyLen, e.ttls = uint16(len(key)), uint16(len(ttls))
	e.data = make([]byte, 0, len(key)+len(packet)+2*len(ttls))
	e.data = append(append(e.data, key...), packet...)
	for _, o := range ttls {
		e.data = binary.NativeEndian.AppendUint16(e.data, o)
	}
}

// Kind returns what the response says.
func (e *Entry) Kind() Kind { return e.kind }

// Answers says whether the response holds an RRset of the asked type.
func (e *Entry) Answers() bool { return e.answers }

// Authenticated says whether the response came with the AD bit.
func (e *Entry) Authenticated() bool { return e.packet()[3]&0x20 != 0 }

// Stored returns when the response was stored.
func (e *Entry) Stored() time.Time { return base.Add(time.Duration(e.stored)) }

// Life returns for how long it was stored.
func (e *Entry) Life() time.Duration { return time.Duration(e.life) }

// Expires returns the moment from which it is stale.
func (e *Entry) Expires() time.Time { return base.Add(time.Duration(e.stored + e.life)) }

// Stale says whether it has expired.
func (e *Entry) Stale(now time.Time) bool { return e.age(now) >= e.life }

// age returns the nanoseconds since it was stored.
func (e *Entry) age(now time.Time) int64 { return clock(now) - e.stored }

// EDE returns the Extended DNS Errors that came with the response. They are shared.
func (e *Entry) EDE() []EDE {
	if e.rare == nil {
		return nil
	}
	return e.rare.ede
}

// Tag returns what the caller of Store gave along.
func (e *Entry) Tag() string {
	if e.rare == nil {
		return ""
	}
	return e.rare.tag
}

// Len returns the length of the packet in octets.
func (e *Entry) Len() int { return len(e.packet()) }

// Key returns the entry's key. It is shared.
func (e *Entry) Key() []byte { return e.key() }

// NoStale says whether the entry is never given after it expired.
func (e *Entry) NoStale() bool { return e.noStale }

// usable says whether it may be given to a client, stale by at most maxStale.
func (e *Entry) usable(now time.Time, maxStale time.Duration) bool {
	age := e.age(now)
	if age < e.life {
		return true
	}
	// A failure is no data that RFC 8767 would have us repeat.
	return !e.noStale && e.kind != Failure && age-e.life < int64(maxStale)
}

// Touch tells the eviction that the entry was used. Find does it; who repeats the packet
// without Find must, or the hottest names look cold.
func (e *Entry) Touch() {
	if f := e.freq.Load(); f < maxFreq {
		e.freq.CompareAndSwap(f, f+1)
	}
}

// Cold says whether the entry was not used since it was stored or the eviction looked at
// it last.
func (e *Entry) Cold() bool { return e.freq.Load() == 0 }

// Popular counts one query at now and says whether at least amount were counted with no
// gap of longer than window between them. It is exact enough for prefetching: concurrent
// calls may lose a count.
func (e *Entry) Popular(now time.Time, window time.Duration, amount int) bool {
	at := e.age(now)
	last := e.lastHit.Swap(at)
	if time.Duration(at-last) > window {
		e.hits.Store(1)
		return amount <= 1
	}
	return int64(e.hits.Add(1)) >= int64(amount)
}

// count is Popular for n queries, without the question.
func (e *Entry) count(n uint32, now time.Time, window time.Duration) {
	at := e.age(now)
	if last := e.lastHit.Swap(at); time.Duration(at-last) > window {
		e.hits.Store(n)
		return
	}
	e.hits.Add(n)
}

// LowerCase says whether the name was in lower case in the response as it came.
func (e *Entry) LowerCase() bool {
	name := keyName(e.key())
	return string(e.packet()[headerLen:headerLen+len(name)]) == string(name)
}

// Waiting says whether a refresh of the entry failed so recently that none is to be
// tried yet (RFC 8767, section 5: the failure recheck timer).
func (e *Entry) Waiting(now time.Time) bool {
	return e.age(now) < e.retry.Load()
}

// Retry sets the failure recheck timer: no refresh for d from now. A d of 0 clears it.
func (e *Entry) Retry(now time.Time, d time.Duration) {
	if d <= 0 {
		e.retry.Store(math.MinInt64)
		return
	}
	e.retry.Store(e.age(now) + int64(d))
}

// inherit takes over how popular the entry was that e replaces.
func (e *Entry) inherit(old *Entry) {
	e.freq.Store(old.freq.Load())
	e.hits.Store(old.hits.Load())
	e.lastHit.Store(old.lastHit.Load() - (e.stored - old.stored))
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
	dst = append(dst, e.packet()...)
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
	if name := keyName(e.key()); len(r.Question) == len(name) && equalFold(r.Question, name) {
		copy(p[headerLen:], r.Question)
	}
	age := e.age(now)
	if age >= e.life {
		for i := range int(e.ttls) {
			o := e.offset(i)
			binary.BigEndian.PutUint32(p[o:], r.StaleTTL)
		}
		return dst
	}
	if r.KeepTTL || age < int64(time.Second) {
		return dst
	}
	passed := uint32(age / int64(time.Second))
	for i := range int(e.ttls) {
		o := e.offset(i)
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
