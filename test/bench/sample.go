package main

import (
	"slices"
	"time"
)

// sample is what one server did in one round. CPU is in microseconds per answered query.
type sample struct {
	cpu   float64 // user and system, of the whole process tree
	user  float64
	part  float64 // of the process that answers; 0 where the server has no parts
	rate  float64 // answered queries/s
	p50   float64 // microseconds; 0 where the generator has none
	p99   float64
	p999  float64
	rss   float64 // MiB of the tree, after the load
	lost  float64 // per cent of what was sent
	wrong float64 // per cent of what was answered
}

func newSample(r reply, before, after usage) sample {
	return sample{
		cpu:  micros(after.total()-before.total(), r.Answered),
		user: micros(after.user-before.user, r.Answered),
		rate: float64(r.Answered) / r.Seconds,
		p50:  r.P50, p99: r.P99, p999: r.P999,
		rss:   float64(after.rss) / (1 << 20),
		lost:  100 * float64(r.Lost) / float64(max(1, r.Sent)),
		wrong: 100 * float64(r.wrong()) / float64(max(1, r.Answered)),
	}
}

func micros(d time.Duration, answers int64) float64 {
	if answers == 0 {
		return 0
	}
	return float64(d) / float64(time.Microsecond) / float64(answers)
}

// medians takes the median of each figure by itself.
func medians(l []sample) sample {
	of := func(f func(sample) float64) float64 {
		v := make([]float64, 0, len(l))
		for _, s := range l {
			v = append(v, f(s))
		}
		return median(v)
	}
	return sample{
		cpu:   of(func(s sample) float64 { return s.cpu }),
		user:  of(func(s sample) float64 { return s.user }),
		part:  of(func(s sample) float64 { return s.part }),
		rate:  of(func(s sample) float64 { return s.rate }),
		p50:   of(func(s sample) float64 { return s.p50 }),
		p99:   of(func(s sample) float64 { return s.p99 }),
		p999:  of(func(s sample) float64 { return s.p999 }),
		rss:   of(func(s sample) float64 { return s.rss }),
		lost:  of(func(s sample) float64 { return s.lost }),
		wrong: of(func(s sample) float64 { return s.wrong }),
	}
}

// median is the middle one, or between the two in the middle; 0 of none.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	n := len(v) / 2
	if len(v)%2 == 1 {
		return v[n]
	}
	return (v[n-1] + v[n]) / 2
}
