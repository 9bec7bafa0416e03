package fastpath

import (
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metrics"
	"github.com/coredns/coredns/plugin/metrics/vars"
	"github.com/coredns/coredns/plugin/pkg/rcode"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/resolverd/resolverd/internal/bulk"
	engine "github.com/resolverd/resolverd/internal/fastpath"
)

// series is what CoreDNS's metrics of one query depend on.
type series struct {
	server, view, name string
	zone               string // of the metrics, found from name
	do                 bool
	family, rcode      int
	qtype              uint16
}

// report is the metrics of a series, looked up once.
type report struct {
	requests, do, responses prometheus.Counter
	duration, asked, given  *bulk.Series
}

// CoreDNS's histograms, with what is observed of many queries at once.
var (
	durations     = bulk.Wrap(vars.RequestDuration, "server", "zone", "view")
	requestSizes  = bulk.Wrap(vars.RequestSize, "server", "zone", "view", "proto")
	responseSizes = bulk.Wrap(vars.ResponseSize, "server", "zone", "view", "proto")
)

// monitored are the types that CoreDNS's metrics name; the rest is "other".
var monitored = map[uint16]bool{
	dns.TypeAAAA: true, dns.TypeA: true, dns.TypeCNAME: true, dns.TypeDNSKEY: true, dns.TypeDS: true,
	dns.TypeMX: true, dns.TypeNSEC3: true, dns.TypeNSEC: true, dns.TypeNS: true, dns.TypePTR: true,
	dns.TypeRRSIG: true, dns.TypeSOA: true, dns.TypeSRV: true, dns.TypeTXT: true, dns.TypeHTTPS: true,
	dns.TypeSVCB: true, dns.TypeIXFR: true, dns.TypeAXFR: true, dns.TypeANY: true,
}

// sink returns who counts the repetitions of what o saw, as prometheus in the block
// would have.
func (b *block) sink(o *observation) engine.Sink {
	p, ok := b.configs[0].Handler("prometheus").(*metrics.Metrics)
	if !ok {
		return func(uint32, time.Duration) {}
	}
	s := o.series
	s.zone = plugin.Zones(p.ZoneNames()).Matches(s.name)
	if s.zone == "" {
		s.zone = "."
	}
	s.name = ""
	r := b.report(s, p)
	asked, given := float64(o.asked), float64(o.given)
	return func(n uint32, took time.Duration) {
		r.requests.Add(float64(n))
		r.responses.Add(float64(n))
		if r.do != nil {
			r.do.Add(float64(n))
		}
		r.duration.Observe(took.Seconds(), uint64(n))
		r.asked.Observe(asked, uint64(n))
		r.given.Observe(given, uint64(n))
	}
}

func (b *block) report(s series, p *metrics.Metrics) *report {
	if r, ok := b.reports.Load(s); ok {
		return r.(*report)
	}
	qtype, family := "other", "1"
	if monitored[s.qtype] {
		qtype = dns.Type(s.qtype).String()
	}
	if s.family == 2 {
		family = "2"
	}
	// The plugin that CoreDNS names as the writer is the one that prometheus calls.
	writer := ""
	if p.Next != nil {
		writer = p.Next.Name()
	}
	r := &report{
		requests:  vars.RequestCount.WithLabelValues(s.server, s.zone, s.view, "udp", family, qtype),
		responses: vars.ResponseRcode.WithLabelValues(s.server, s.zone, s.view, rcode.ToString(s.rcode), writer),
		duration:  durations.Series(s.server, s.zone, s.view),
		asked:     requestSizes.Series(s.server, s.zone, s.view, "udp"),
		given:     responseSizes.Series(s.server, s.zone, s.view, "udp"),
	}
	if s.do {
		r.do = vars.RequestDo.WithLabelValues(s.server, s.zone, s.view)
	}
	b.reports.Store(s, r)
	return r
}
