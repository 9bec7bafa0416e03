package specialuse

import (
	"strings"
	"testing"

	"github.com/coredns/caddy"
)

// FuzzOptions: reading the directive ends, and every exception is a lower-cased name.
func FuzzOptions(f *testing.F) {
	for _, s := range []string{" except a b", " {\n except 10.0.0.0/8\n except Local\n}", " {\n}", " except \"\"", " except \xff."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 {
			return
		}
		h, err := parse(caddy.NewTestController("dns", "specialuse"+text))
		if err != nil {
			return
		}
		for _, z := range h.except {
			if z != strings.ToLower(z) || !strings.HasSuffix(z, ".") {
				t.Errorf("%q: exception %q", text, z)
			}
		}
	})
}
