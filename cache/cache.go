package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/internal/answer"
)

const (
	shards = 64
	// DefaultBytes is the byte budget of a cache that is given none.
	DefaultBytes = 64 << 20
	// MinBytes is the least byte budget.
	MinBytes = 1 << 20
	// minEntries is the least bound on a number of entries, as in the stock directive.
	minEntries = 1024
	// maxFlights bounds the fetches that are shared at a time.
	maxFlights = 16384
)

// Size bounds a cache.
type Size struct {
	// Bytes is the budget for packets, keys and bookkeeping; 0 means [DefaultBytes].
	Bytes int64
	// Success and Denial bound the number of entries, 0 means by bytes only; what is below 1024 counts as 1024.
	// Each is rounded up to a multiple of the shards (64).
	Success, Denial int
}

// Validate reports a size that no cache can have.
func (z Size) Validate() error {
	var errs []error
	if z.Bytes != 0 && z.Bytes < MinBytes {
		errs = append(errs, fmt.Errorf("cache: bytes %d is below the least budget of %d", z.Bytes, MinBytes))
	}
	if z.Success < 0 || z.Denial < 0 {
		errs = append(errs, errors.New("cache: a number of entries is negative"))
	}
	return errors.Join(errs...)
}

// Cache is one namespace of stored responses. All methods are safe for concurrent use.
type Cache struct {
	name      string
	seed      maphash.Seed
	epoch     answer.Epoch
	bytes     atomic.Int64    // budget
	most      [2]atomic.Int64 // entries per shard, 0 for no bound
	total     [2]atomic.Int64 // entries by class
	flying    atomic.Int64
	shared    atomic.Uint64
	fetches   atomic.Uint64
	refreshes atomic.Uint64
	onFlush   atomic.Pointer[func()]
	shard     [shards]shard
}

// New returns an empty cache. name is for people: statistics and logs.
func New(name string, z Size) (*Cache, error) {
	c := &Cache{name: name, seed: maphash.MakeSeed()}
	for i := range c.shard {
		c.shard[i].entries = map[uint64]*Entry{}
		c.shard[i].flights = map[string]*Flight{}
		c.shard[i].total = &c.total
	}
	c.epoch.Store(1)
	if err := c.Resize(z, time.Now()); err != nil {
		return nil, err
	}
	return c, nil
}

// Name returns the name that New was given.
func (c *Cache) Name() string { return c.name }

// Resize changes the bounds and evicts what is over them.
func (c *Cache) Resize(z Size, now time.Time) error {
	if err := z.Validate(); err != nil {
		return err
	}
	if z.Bytes == 0 {
		z.Bytes = DefaultBytes
	}
	c.bytes.Store(z.Bytes)
	for i, n := range [2]int{z.Success, z.Denial} {
		if n > 0 {
			n = (max(n, minEntries) + shards - 1) / shards
		}
		c.most[i].Store(int64(n))
	}
	for i := range c.shard {
		s := &c.shard[i]
		s.mu.Lock()
		budget, most := c.bounds()
		for class, n := range most {
			for n > 0 && s.count(class) > n && s.evict(class, now) {
			}
		}
		for s.bytes() > budget && s.evict(-1, now) {
		}
		s.mu.Unlock()
	}
	return nil
}

func (c *Cache) bounds() (int64, [2]int) {
	return c.bytes.Load() / shards, [2]int{int(c.most[0].Load()), int(c.most[1].Load())}
}

// Epoch is raised by every flush. A learnt copy of an entry dies when it moves; it must
// be read before Find.
func (c *Cache) Epoch() *answer.Epoch { return &c.epoch }

func (c *Cache) at(key []byte) (*shard, uint64) {
	h := maphash.Bytes(c.seed, key)
	return &c.shard[h>>(64-6)], h
}

// Find returns the entry of the key that may be given to a client at now, fresh or stale
// by less than maxStale, or nil. It counts the hit or miss and does not allocate.
func (c *Cache) Find(key []byte, now time.Time, maxStale time.Duration) *Entry {
	s, h := c.at(key)
	e := s.peek(h, key)
	if e == nil || !e.usable(now, maxStale) {
		s.misses[0].Add(1)
		return nil
	}
	e.Touch()
	if e.Stale(now) {
		s.stale[class(e.kind)].Add(1)
	} else {
		s.hits[class(e.kind)].Add(1)
	}
	return e
}

// Repeated counts n hits on an entry that somebody repeated without Find, the last of
// them about now, as Find and Popular with that window would have.
func (c *Cache) Repeated(e *Entry, n uint32, now time.Time, window time.Duration) {
	e.Touch()
	if n > 1 {
		e.Touch()
	}
	e.count(n, now, window)
	s, _ := c.at(e.key())
	s.hits[class(e.kind)].Add(uint64(n))
}

func (s *shard) peek(h uint64, key []byte) *Entry {
	s.mu.RLock()
	e := s.entries[h]
	s.mu.RUnlock()
	if e == nil || string(e.key()) != string(key) {
		return nil
	}
	return e
}

// Peek returns the entry of the key, expired or not, and counts nothing.
func (c *Cache) Peek(key []byte) *Entry {
	s, h := c.at(key)
	return s.peek(h, key)
}

// Info is what Lookup says beside the packet.
type Info struct {
	// Entry is what was found.
	Entry *Entry
	// Epoch is what the cache's epoch read before the entry was looked up.
	Epoch uint64
}

// Lookup appends to dst the reply to a query: Find of what is fresh, and AppendReply.
// It does not allocate where dst has room.
func (c *Cache) Lookup(key, dst []byte, r Reply, now time.Time) ([]byte, Info, bool) {
	seen := c.epoch.Load()
	e := c.Find(key, now, 0)
	if e == nil {
		return dst, Info{}, false
	}
	return e.AppendReply(dst, r, now), Info{Entry: e, Epoch: seen}, true
}

// Storage says how a response is stored.
type Storage struct {
	// Epoch is what the cache's epoch read before the response was asked for. Where it
	// has moved since, a flush lies between, and the response is not stored.
	Epoch uint64
	// NoStale forbids that the entry is ever given after it expired.
	NoStale bool
	// MaxStale is how long after its expiry an entry is still of use: within it, a
	// failure does not replace an answer or a denial.
	MaxStale time.Duration
	// PreferPositive keeps an answer, while it may be given, where what comes does not
	// answer the question.
	PreferPositive bool
	// Tag is kept with the entry.
	Tag string
}

// Stored is what became of a response.
type Stored struct {
	// Entry is what is under the key afterwards: a new one, the old one where the
	// response must not replace it, or nil.
	Entry *Entry
	// New says that Entry is the response.
	New bool
	// Evicted counts the answers and the denials that made room.
	Evicted [2]int
}

// Store keeps p under the key. It returns an error where p cannot be packed or does not
// fit; a p that is not to be kept is no error.
func (c *Cache) Store(key []byte, p Prepared, o Storage, now time.Time) (Stored, error) {
	if p.Kind == Uncacheable || p.Life <= 0 {
		return Stored{}, nil
	}
	packet, err := pack(p.Msg)
	if err != nil {
		s, _ := c.at(key)
		s.refused.Add(1)
		return Stored{}, err
	}
	return c.StoreWire(key, Wire{Packet: packet, Kind: p.Kind, Life: p.Life, Answers: p.Answers, EDE: p.EDE}, o, now)
}

// Wire is a response in wire form that is ready to be stored and to be written.
type Wire struct {
	// Packet is the response without OPT, with its TTLs bounded, and well-formed: what the
	// library could not read would be an error for each client that asks.
	Packet []byte
	// Kind, Life, Answers and EDE are as in [Prepared].
	Kind    Kind
	Life    time.Duration
	Answers bool
	EDE     []EDE
}

// StoreWire is [Cache.Store] for a response in wire form. The packet is copied.
func (c *Cache) StoreWire(key []byte, w Wire, o Storage, now time.Time) (Stored, error) {
	if w.Kind == Uncacheable || w.Life <= 0 {
		return Stored{}, nil
	}
	e, err := newEntry(key, w, o, now)
	budget, most := c.bounds()
	if err == nil && e.cost() > budget/2 {
		err = errLarge
	}
	s, h := c.at(key)
	if err != nil {
		s.refused.Add(1)
		return Stored{}, err
	}
	e.hash = h
	s.mu.Lock()
	defer s.mu.Unlock()
	// Under the lock that a flush takes after it has raised the epoch: either the flush
	// is seen here, or it finds the entry.
	if c.epoch.Load() != o.Epoch {
		return Stored{}, nil
	}
	if old := s.entries[h]; old != nil && string(old.key()) == string(key) && !replaces(old, e, o, now) {
		return Stored{Entry: old}, nil
	}
	s.stored.Add(1)
	return Stored{Entry: e, New: true, Evicted: s.insert(e, budget, most, now)}, nil
}

var errLarge = errors.New("cache: response does not fit the budget")

// replaces says whether e may take the place of old.
func replaces(old, e *Entry, o Storage, now time.Time) bool {
	if !old.usable(now, o.MaxStale) {
		return true
	}
	if e.kind == Failure {
		return old.kind == Failure
	}
	return !o.PreferPositive || !old.answers || e.answers
}

// pack returns the packet of a message to be stored.
func pack(m *dns.Msg) ([]byte, error) {
	copied := *m
	copied.Compress, copied.Zero = true, false
	packet, err := copied.Pack()
	if err != nil {
		return nil, fmt.Errorf("cache: pack: %w", err)
	}
	// The library unpacks some malformed RDATA that it then packs to what it cannot read:
	// found out now, not when a client asks.
	if err := new(dns.Msg).Unpack(packet); err != nil {
		return nil, fmt.Errorf("cache: unpack: %w", err)
	}
	return packet, nil
}

func newEntry(key []byte, w Wire, o Storage, now time.Time) (*Entry, error) {
	if !validKey(key) {
		return nil, errName
	}
	var room [16]uint16
	l, err := index(w.Packet, room[:0])
	if err != nil {
		return nil, err
	}
	if l.question != len(keyName(key)) || !equalFold(w.Packet[headerLen:headerLen+l.question], keyName(key)) {
		return nil, errOther
	}
	e := &Entry{
		stored: clock(now), life: int64(w.Life), kind: w.Kind, answers: w.Answers,
		// What holds no answer is not worth repeating once it has expired.
		noStale: o.NoStale || w.Kind == Success && !w.Answers,
	}
	e.make(key, w.Packet, l.ttls)
	binary.BigEndian.PutUint16(e.packet(), 0) // its id
	if len(w.EDE) > 0 || o.Tag != "" {
		e.rare = &rare{ede: w.EDE, tag: o.Tag}
	}
	return e, nil
}

var errOther = errors.New("cache: response is to another question")

// Close empties the cache. Fetches under way are not stored.
func (c *Cache) Close() error {
	c.Flush()
	return nil
}
