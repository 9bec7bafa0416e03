package check

import (
	"fmt"
	"time"
)

// A ttl check is not run: somebody reports its status through the API, and it turns
// critical when nobody did for its TTL. A report shows as a change of the check in the
// view, or through [Runner.Beat] where it repeats what stands there already and nothing
// was written.

// expiredOutput is what an expired check says.
func expiredOutput(ttl time.Duration) string {
	return fmt.Sprintf("TTL expired: no report for %v", ttl)
}
