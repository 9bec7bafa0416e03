package names_test

import (
	"fmt"
	"testing"

	"github.com/miekg/dns"
	"github.com/resolverd/resolverd/registry/names"
)

// BenchmarkAnswer makes answers from snapshots of services of several sizes.
func BenchmarkAnswer(b *testing.B) {
	z := mustZone(b, "internal.")
	for _, n := range []int{3, 50, 5000} {
		s := many(n).Load()
		for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV} {
			b.Run(fmt.Sprintf("%s/%d", dns.TypeToString[qtype], n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					q, _ := z.Parse("web.service.internal.")
					a := z.Answer(s, q, names.Query{Name: "web.service.internal.", Type: qtype, Rand: names.Global, Limit: names.MaxRRs(8192)})
					m := new(dns.Msg)
					m.SetQuestion("web.service.internal.", qtype)
					m.Answer, m.Extra = a.Answer, a.Additional
					names.Fit(m, 8192)
				}
			})
		}
	}
}
