package ratelimit

import (
	"hash/maphash"
	"sync/atomic"
)

const (
	ways  = 8       // of a line: together a cache line
	lines = 1 << 13 // of a table: 65,536 buckets in 512 KiB
	// maxTries bounds how often a bucket that others change at the same time is tried.
	maxTries = 32
)

// A bucket in the table is a word: 16 bits of its key's hash, 4 bits missed, 44 bits full.
// 0 is none.
const (
	missedShift = clockBits
	tagShift    = clockBits + 4
)

type line [ways]atomic.Uint64

// Table holds the buckets of all prefixes, in memory that does not grow. It is safe for
// concurrent use, and may outlive those who ask it.
//
// Where a line is full the bucket with the most tokens gives way: a flood from ever other
// prefixes washes out itself and what is nearly full anyway, never a prefix that is at its
// limit, and who is new gets an answer. The hash has a seed, so that nobody can choose
// whom to share a bucket with.
type Table struct {
	seed  maphash.Seed
	lines []line
}

// NewTable returns an empty table.
func NewTable() *Table {
	return &Table{seed: maphash.MakeSeed(), lines: make([]line, lines)}
}

// Close implements io.Closer, for who keeps a table over a reload. It does nothing.
func (*Table) Close() error { return nil }

// take takes a token from the bucket of the key at the tick now.
func (t *Table) take(key []byte, l limit, now uint64, slip uint8) Verdict {
	h := maphash.Bytes(t.seed, key)
	ln := &t.lines[h%lines]
	tag := h >> tagShift
	if tag == 0 {
		tag = 1 // no bucket has the tag 0
	}
	for range maxTries {
		place, word := ln.find(tag, now, l)
		var b bucket
		if word>>tagShift == tag {
			b = unpack(word)
		}
		b, v := l.step(b, now, slip)
		next := b.pack(tag)
		if next == word || place.CompareAndSwap(word, next) {
			return v
		}
	}
	// So many at once are a flood.
	return Drop
}

// find returns the bucket of the tag, or where one is to be put: in an empty place, else
// in that of the fullest. Two who put the same new bucket at once choose the same place.
func (ln *line) find(tag, now uint64, l limit) (*atomic.Uint64, uint64) {
	var place *atomic.Uint64
	var found uint64
	least := int64(-1)
	for i := range ln {
		w := ln[i].Load()
		if w>>tagShift == tag {
			return &ln[i], w
		}
		ahead := int64(0)
		if w != 0 {
			ahead = 1 + unpack(w).ahead(now, l)
		}
		if least < 0 || ahead < least {
			place, found, least = &ln[i], w, ahead
		}
	}
	return place, found
}

func unpack(w uint64) bucket {
	return bucket{full: w & clockMask, missed: uint8(w >> missedShift & 0xF)}
}

func (b bucket) pack(tag uint64) uint64 {
	return tag<<tagShift | uint64(b.missed)<<missedShift | b.full
}
