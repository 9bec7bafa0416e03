package registry_test

import (
	"fmt"
	"testing"

	"github.com/resolverd/resolverd/registry"
)

// BenchmarkApplyWhole is what stands between the start of an answerer and its first
// answer: 20,000 instances with a check each, read from disk.
func BenchmarkApplyWhole(b *testing.B) {
	var rs []registry.Record
	for n := range 1000 {
		name := fmt.Sprintf("n%d", n)
		rs = append(rs, node(b, name, fmt.Sprintf("10.0.%d.%d", n/250, n%250+1), 1))
		for i := range 20 {
			id := fmt.Sprintf("i%d", i)
			rs = append(rs, instance(name, id, fmt.Sprintf("s%d", (n+i)%200), 1), check(name, "c"+id, id, registry.Passing, 1))
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		v := registry.NewView()
		if err := v.Apply(registry.Batch{Revision: 1, Whole: true, Records: rs}); err != nil {
			b.Fatal(err)
		}
	}
}
