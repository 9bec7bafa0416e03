package forward

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// reportEvery is the least time between two lines about failed queries.
const reportEvery = 10 * time.Second

// report tells the log that queries fail: the first at once, then at most one line in
// reportEvery with how many there were. The zero value is ready.
type report struct {
	count atomic.Uint64 // failed since the last line
	next  atomic.Int64  // moment (Unix ns) from which a line may be written
}

// failed counts one query that no upstream answered, and may write the line.
func (r *report) failed(log *slog.Logger, from string, err error) {
	r.count.Add(1)
	now := time.Now()
	next := r.next.Load()
	if now.UnixNano() < next || !r.next.CompareAndSwap(next, now.Add(reportEvery).UnixNano()) {
		return
	}
	log.Warn("queries fail", "directive", "forward "+from, "failed", r.count.Swap(0), "last", err)
}
