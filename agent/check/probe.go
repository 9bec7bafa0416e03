package check

import (
	"context"
	"fmt"
	"strings"

	"github.com/resolverd/resolverd/registry"
)

// result is what one run found.
type result struct {
	status registry.Status
	output string // at most MaxOutput octets
}

// prober runs one check once. It returns when the context ends, at the latest shortly
// after, and leaves nothing behind. A prober is used by one goroutine at a time.
type prober interface {
	probe(ctx context.Context) result
}

// newProber makes the prober of a definition. It opens nothing yet.
func newProber(node string, c *registry.Check) (prober, error) {
	d := c.Definition
	switch d.Kind {
	case registry.CheckHTTP:
		return newHTTP(d)
	case registry.CheckTCP:
		return newTCP(d), nil
	case registry.CheckUDP:
		return &udpProbe{target: d.Target, payload: d.Body}, nil
	case registry.CheckGRPC:
		return newGRPC(d), nil
	case registry.CheckScript:
		return newScript(node, c)
	}
	return nil, fmt.Errorf("check: kind %q is not known to this version", d.Kind)
}

func passing(format string, args ...any) result {
	return result{registry.Passing, clip(fmt.Sprintf(format, args...))}
}

func critical(format string, args ...any) result {
	return result{registry.Critical, clip(fmt.Sprintf(format, args...))}
}

// clip makes s UTF-8 of at most MaxOutput octets.
func clip(s string) string {
	if len(s) > MaxOutput {
		s = s[:MaxOutput]
	}
	if s = strings.ToValidUTF8(s, "?"); len(s) > MaxOutput {
		s = s[:MaxOutput]
	}
	return s
}

// tidy is clip for what a program or a server said: without the last line's end.
func tidy(b []byte) string { return clip(strings.TrimRight(string(b), "\r\n")) }

// why is an error in words, with a word of its own for a run that took too long.
func why(ctx context.Context, err error) string {
	if ctx.Err() == context.DeadlineExceeded {
		return "timed out: " + err.Error()
	}
	return err.Error()
}
