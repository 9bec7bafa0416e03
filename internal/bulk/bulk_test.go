package bulk

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/testing/protocmp"
)

func vec(name string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: name, Help: "h", Buckets: []float64{0.001, 0.01, 0.1, 1, 100, 1000}, NativeHistogramBucketFactor: 1.05,
	}, []string{"server", "zone"})
}

// TestSameAsObserved observes the same values one by one in a stock histogram, and in the
// three ways of this package, and compares all that is collected.
func TestSameAsObserved(t *testing.T) {
	stock, wrapped := vec("x"), Wrap(vec("x"), "server", "zone")
	reg := prometheus.NewRegistry()
	reg.MustRegister(wrapped.HistogramVec)
	if err := wrapped.Replace(reg); err != nil {
		t.Fatal(err)
	}
	values := []float64{0, 0.001, 0.5, 1, 2, 1000, 1e-12, 1e9, math.SmallestNonzeroFloat64, 0.0625, 512, 65535}
	for range 2000 {
		values = append(values, math.Exp(rand.Float64()*20-15))
	}
	s := wrapped.Series("a", "b")
	c := s.Counts()
	for i, v := range values {
		n := uint64(1 + i%3)
		for range n {
			stock.WithLabelValues("a", "b").Observe(v)
		}
		switch i % 4 {
		case 0:
			s.Observe(v, n)
		case 1, 2:
			c.Observe(v, n)
		default:
			for range n {
				wrapped.WithLabelValues("a", "b").Observe(v)
			}
		}
		if i%500 == 0 {
			s.Add(c)
		}
	}
	s.Add(c)
	s.Add(c) // empty
	stock.WithLabelValues("only", "stock").Observe(3)
	wrapped.WithLabelValues("only", "stock").Observe(3)
	stock.WithLabelValues("nothing", "yet")
	wrapped.Series("nothing", "yet")

	other := prometheus.NewRegistry()
	other.MustRegister(stock)
	want, got := gather(t, other), gather(t, reg)
	if d := cmp.Diff(want, got, protocmp.Transform(), protocmp.IgnoreFields(&dto.Histogram{}, "created_timestamp"), closeSums); d != "" {
		t.Errorf("stock (-) and bulk (+) differ:\n%s", d)
	}
}

// closeSums lets sums of floating-point numbers differ by the order of adding.
var closeSums = protocmp.FilterField(new(dto.Histogram), "sample_sum",
	cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) <= 1e-9*math.Abs(a+b) }))

func gather(t *testing.T, r *prometheus.Registry) *dto.MetricFamily {
	t.Helper()
	f, err := r.Gather()
	if err != nil || len(f) != 1 {
		t.Fatalf("%d families, %v", len(f), err)
	}
	return f[0]
}

func TestNoAllocations(t *testing.T) {
	c := Wrap(vec("y"), "server", "zone").Series("a", "b").Counts()
	if n := testing.AllocsPerRun(100, func() { c.Observe(0.0003, 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestLint(t *testing.T) {
	v := Wrap(vec("lint_seconds"), "server", "zone")
	v.Series("a", "b").Observe(1, 1)
	if p, err := testutil.CollectAndLint(v); err != nil || len(p) > 0 {
		t.Errorf("%v %v", p, err)
	}
}

func BenchmarkObserve(b *testing.B) {
	v := vec("z")
	o := v.WithLabelValues("a", "b")
	s := Wrap(vec("z"), "server", "zone").Series("a", "b")
	c := s.Counts()
	b.Run("prometheus", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			o.Observe(float64(i&1023) * 1e-6)
		}
	})
	b.Run("series", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			s.Observe(float64(i&1023)*1e-6, 1)
		}
	})
	b.Run("counts", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			c.Observe(float64(i&1023)*1e-6, 1)
		}
	})
}
