package fastpath

import (
	"time"

	"github.com/resolverd/resolverd/internal/bulk"
)

// flushEvery is how old counts of relayed queries become.
const flushEvery = time.Second

// counted is what the metrics of a relayed query depend on.
type counted struct {
	course *course
	do     bool
	family uint8
	rcode  uint8
	qtype  uint16
}

// tally is the metrics of one counted that are not told yet.
type tally struct {
	*report
	n                      uint64
	duration, asked, given *bulk.Counts
}

// count counts as prometheus in the block would have.
func (r *relay) count(c *carried, given int, rcode uint8) {
	p := c.course.metrics
	if p == nil {
		return
	}
	by := counted{course: c.course, do: c.do, family: uint8(c.back.Family()), rcode: rcode, qtype: c.qtype}
	t := r.tallies[by]
	if t == nil {
		m := c.course.block.report(series{
			server: c.course.server, view: c.course.view, zone: c.course.zone,
			do: by.do, family: int(by.family), rcode: int(by.rcode), qtype: by.qtype,
		}, p)
		t = &tally{report: m, duration: m.duration.Counts(), asked: m.asked.Counts(), given: m.given.Counts()}
		r.tallies[by] = t
	}
	t.n++
	t.duration.Observe(r.now.Sub(c.began).Seconds(), 1)
	t.asked.Observe(float64(c.length), 1)
	t.given.Observe(float64(given), 1)
	if r.flushAt.IsZero() {
		r.flushAt = r.now.Add(flushEvery)
	}
}

// flush tells all tallies.
func (r *relay) flush() {
	r.flushAt = time.Time{}
	for _, t := range r.tallies {
		if t.n == 0 {
			continue
		}
		n := float64(t.n)
		t.n = 0
		t.requests.Add(n)
		t.responses.Add(n)
		if t.do != nil {
			t.do.Add(n)
		}
		t.report.duration.Add(t.duration)
		t.report.asked.Add(t.asked)
		t.report.given.Add(t.given)
	}
}
