package registry

import (
	"hash/maphash"
	"iter"
)

// shardCount bounds the cost of a write: one shard and the array of pointers are
// copied. At 100,000 keys a shard has about 100.
const shardCount = 1024

var shardSeed = maphash.MakeSeed()

// shards is an immutable map, split so that a copy with a few keys changed is cheap.
// The zero shards is empty.
type shards[K comparable, V any] struct {
	part *[shardCount]map[K]V
	size int
}

func shardOf[K comparable](k K) uint64 {
	return maphash.Comparable(shardSeed, k) % shardCount
}

func (s shards[K, V]) get(k K) (V, bool) {
	if s.part == nil {
		var zero V
		return zero, false
	}
	v, ok := s.part[shardOf(k)][k]
	return v, ok
}

func (s shards[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if s.part == nil {
			return
		}
		for _, m := range s.part {
			for k, v := range m {
				if !yield(k, v) {
					return
				}
			}
		}
	}
}

// edit collects changes to a shards and copies each touched shard once.
type edit[K comparable, V any] struct {
	part  [shardCount]map[K]V
	owned [shardCount]bool
	size  int
	dirty bool
	base  shards[K, V]
}

func (s shards[K, V]) edit() *edit[K, V] {
	e := &edit[K, V]{size: s.size, base: s}
	if s.part != nil {
		e.part = *s.part
	}
	return e
}

func (e *edit[K, V]) get(k K) (V, bool) {
	v, ok := e.part[shardOf(k)][k]
	return v, ok
}

func (e *edit[K, V]) own(i uint64) map[K]V {
	if !e.owned[i] {
		m := make(map[K]V, len(e.part[i])+1)
		for k, v := range e.part[i] {
			m[k] = v
		}
		e.part[i], e.owned[i], e.dirty = m, true, true
	}
	return e.part[i]
}

func (e *edit[K, V]) set(k K, v V) {
	m := e.own(shardOf(k))
	before := len(m)
	m[k] = v
	e.size += len(m) - before
}

func (e *edit[K, V]) remove(k K) {
	i := shardOf(k)
	if _, ok := e.part[i][k]; !ok {
		return
	}
	delete(e.own(i), k)
	e.size--
}

func (e *edit[K, V]) done() shards[K, V] {
	if !e.dirty {
		return e.base
	}
	part := e.part
	return shards[K, V]{part: &part, size: e.size}
}
