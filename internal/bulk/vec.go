package bulk

import (
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Vec is a histogram vector to which many observations can be added at once. It is
// registered in the place of the vector that it wraps. Its methods are safe for
// concurrent use.
type Vec struct {
	*prometheus.HistogramVec
	labels []string

	mu     sync.Mutex // guards series
	series map[string]*Series
}

// Wrap returns a Vec over v, whose labels are named in the order of their values.
func Wrap(v *prometheus.HistogramVec, labels ...string) *Vec {
	return &Vec{HistogramVec: v, labels: labels, series: map[string]*Series{}}
}

// Replace registers the Vec in the place of what it wraps.
func (v *Vec) Replace(r prometheus.Registerer) error {
	r.Unregister(v.HistogramVec)
	return r.Register(v)
}

// Series returns the histogram of these label values, one for each label.
func (v *Vec) Series(values ...string) *Series {
	key := strings.Join(values, "\xff")
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.series[key]
	if s == nil {
		o := v.WithLabelValues(values...)
		s = &Series{upper: upperOf(o)}
		s.total.init(s.upper)
		v.series[key] = s
	}
	return s
}

// upperOf returns the upper bounds of a histogram's classic buckets.
func upperOf(o prometheus.Observer) []float64 {
	var upper []float64
	for _, b := range read(o.(prometheus.Metric)).GetHistogram().GetBucket() {
		upper = append(upper, b.GetUpperBound())
	}
	return upper
}

func read(m prometheus.Metric) *dto.Metric {
	d := new(dto.Metric)
	_ = m.Write(d) // a histogram's never fails
	return d
}

// Series is one histogram of a Vec. Its methods are safe for concurrent use.
type Series struct {
	upper []float64

	mu    sync.Mutex // guards total
	total Counts
}

// Observe adds n observations of v, which is 0 or more.
func (s *Series) Observe(v float64, n uint64) {
	s.mu.Lock()
	s.total.Observe(v, n)
	s.mu.Unlock()
}

// Counts returns Counts whose observations Add takes.
func (s *Series) Counts() *Counts {
	c := new(Counts)
	c.init(s.upper)
	return c
}

func (c *Counts) init(upper []float64) {
	c.upper, c.classic = upper, make([]uint64, len(upper)+1)
}

// Add takes over what c holds, which came from this Series' Counts.
func (s *Series) Add(c *Counts) {
	if c.n == 0 {
		return
	}
	s.mu.Lock()
	c.move(&s.total)
	s.mu.Unlock()
}

// Collect implements prometheus.Collector.
func (v *Vec) Collect(ch chan<- prometheus.Metric) {
	inner := make(chan prometheus.Metric, 64)
	go func() {
		v.HistogramVec.Collect(inner)
		close(inner)
	}()
	for m := range inner {
		d := read(m)
		if s := v.find(d); s != nil {
			s.mu.Lock()
			merge(d.Histogram, &s.total)
			s.mu.Unlock()
		}
		ch <- merged{m, d}
	}
}

func (v *Vec) find(d *dto.Metric) *Series {
	values := make([]string, len(v.labels))
	for _, l := range d.Label {
		if i := slices.Index(v.labels, l.GetName()); i >= 0 {
			values[i] = l.GetValue()
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.series[strings.Join(values, "\xff")]
}

// merged is a histogram with what came in bulk.
type merged struct {
	prometheus.Metric
	d *dto.Metric
}

// Write implements prometheus.Metric.
func (m merged) Write(out *dto.Metric) error {
	out.Label, out.Histogram = m.d.Label, m.d.Histogram
	return nil
}
