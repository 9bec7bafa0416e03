package cache

import "time"

// Wire is a response in wire form.
type Wire struct {
	Packet  []byte
	Kind    Kind
	Life    time.Duration
	Answers bool
	EDE     []EDE
}

// StoreWire stores.
func (c *Cache) StoreWire(key []byte, p Wire, o Storage, now time.Time) (Stored, error) {
	l, err := index(p.Packet)
	if err != nil {
		return Stored{}, err
	}
	buf := make([]byte, len(key)+len(p.Packet))
	copy(buf, key)
	copy(buf[len(key):], p.Packet)
	e := &Entry{
		key:    buf[:len(key):len(key)],
		packet: buf[len(key):],
		ttls:   l.ttls,
		stored: now, life: p.Life,
		kind: p.Kind, noStale: o.NoStale || p.Kind == Success && !p.Answers, answers: p.Answers, ede: p.EDE, tag: o.Tag,
	}
	e.packet[0], e.packet[1] = 0, 0
	budget, most := c.bounds()
	s, h := c.at(key)
	e.hash = h
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.epoch.Load() != o.Epoch {
		return Stored{}, nil
	}
	if old := s.entries[h]; old != nil && string(old.key) == string(key) && !replaces(old, e, o, now) {
		return Stored{Entry: old}, nil
	}
	s.stored.Add(1)
	return Stored{Entry: e, New: true, Evicted: s.insert(e, budget, most, now)}, nil
}
