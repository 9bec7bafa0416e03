package registry

import (
	"testing"

	"github.com/coredns/caddy"
)

// FuzzOptions: whatever stands behind the directive, reading it ends, and what is
// accepted is within bounds.
func FuzzOptions(f *testing.F) {
	for _, s := range []string{
		" internal consul {\n ttl web* 5s\n negative_ttl 3\n short\n}",
		" {\n all_critical last_good a b*\n srv_drain omit\n fallthrough a.org\n}",
		" 10.0.0.0/8", " a a", "{\n datacenter \"\"\n}", " {\n ttl \\* 1h\n ns x.\n mbox y\n}\nregistry b", " \xff {\n}",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 {
			return
		}
		h, err := parse(caddy.NewTestController("dns", "registry"+text))
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, z := range h.zones {
			if err := z.Validate(); err != nil || seen[z.Origin] || z.Origin == "." {
				t.Errorf("%q: zone %q: %v", text, z.Origin, err)
			}
			seen[z.Origin] = true
		}
	})
}
