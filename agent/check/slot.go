package check

import (
	"time"

	"github.com/cespare/xxhash/v2"
)

// soon bounds how long the first run of a check that is new waits.
const soon = time.Second

// phase is the place of a check within its interval. It hangs on its names only, so that
// the load of a host looks the same after a restart, and checks that were registered
// together do not run together.
func phase(node, id string, interval time.Duration) time.Duration {
	return time.Duration(xxhash.Sum64String(node+"\x00"+id) % uint64(interval))
}

// firstRun says when a check runs first, on a clock that began with the runner. One that
// has a result already waits for its slot; a new one runs within a second, at a place
// there that its phase gives.
func firstRun(now, phase, interval time.Duration, fresh bool) time.Duration {
	if !fresh {
		return nextSlot(now, phase, interval)
	}
	span := min(interval, soon)
	return now + time.Duration(float64(phase)/float64(interval)*float64(span))
}

// nextRun says when a check runs that began its last run at start and ended it now: at
// its own slot that is about one interval away, half an interval at least and one and a
// half at most. Slots that passed meanwhile are not made up for.
func nextRun(start, now, phase, interval time.Duration) time.Duration {
	return nextSlot(max(start+interval/2, now+interval/8), phase, interval)
}

// nextSlot returns the first time after now that is at the phase of its interval.
func nextSlot(now, phase, interval time.Duration) time.Duration {
	t := now - now%interval + phase
	if t <= now {
		t += interval
	}
	return t
}
