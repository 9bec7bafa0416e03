package forward

import (
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		log := slog.New(slog.NewTextHandler(&out, nil))
		var r report
		for range 100 {
			r.failed(log, ".", errors.New("timeout"))
			time.Sleep(150 * time.Millisecond)
		}
		got := regexp.MustCompile(`failed=\d+`).FindAllString(out.String(), -1)
		if diff := cmp.Diff([]string{"failed=1", "failed=67"}, got); diff != "" {
			t.Errorf("lines in 15 s (-want +got):\n%s", diff)
		}
	})
}
