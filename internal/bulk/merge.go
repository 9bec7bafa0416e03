package bulk

import (
	"maps"
	"slices"

	dto "github.com/prometheus/client_model/go"
)

// merge adds c to h, which has the same classic buckets.
func merge(h *dto.Histogram, c *Counts) {
	if c.n == 0 {
		return
	}
	h.SampleCount = new(h.GetSampleCount() + c.n)
	h.SampleSum = new(h.GetSampleSum() + c.sum)
	var below uint64
	for i, b := range h.Bucket {
		if i < len(c.classic) {
			below += c.classic[i]
		}
		b.CumulativeCount = new(b.GetCumulativeCount() + below)
	}
	if h.Schema == nil || h.GetSchema() != schema {
		return // a histogram without native buckets, or of another resolution
	}
	h.ZeroCount = new(h.GetZeroCount() + c.zero)
	all := decode(h.PositiveSpan, h.PositiveDelta)
	c.each(func(key int, n uint64) { all[key] += n })
	h.PositiveSpan, h.PositiveDelta = encode(all)
}

// decode returns the count of each bucket.
func decode(spans []*dto.BucketSpan, deltas []int64) map[int]uint64 {
	all := map[int]uint64{}
	key, at, n := 0, 0, int64(0)
	for _, s := range spans {
		key += int(s.GetOffset())
		for range s.GetLength() {
			n += deltas[at]
			all[key] = uint64(n)
			key++
			at++
		}
	}
	return all
}

// encode is the reverse: runs of neighbours, each with its distance from the one before,
// and the counts as differences. As prometheus does it, up to two buckets without a count
// do not end a run.
func encode(all map[int]uint64) (spans []*dto.BucketSpan, deltas []int64) {
	next, before := 0, int64(0)
	for i, key := range slices.Sorted(maps.Keys(all)) {
		if i == 0 || key-next > 2 {
			spans = append(spans, &dto.BucketSpan{Offset: new(int32(key - next)), Length: new(uint32(0))})
			next = key
		}
		last := spans[len(spans)-1]
		for ; next <= key; next++ {
			n := int64(all[next])
			*last.Length++
			deltas = append(deltas, n-before)
			before = n
		}
	}
	return spans, deltas
}
