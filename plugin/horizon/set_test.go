package horizon

import (
	"net/netip"
	"testing"
)

func FuzzParsePrefix(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8", "::ffff:10.0.0.1", "::ffff:10.0.0.0/104", "fe80::1%eth0", "1.2.3.4/33", "/", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePrefix(s)
		if err != nil {
			return
		}
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() || p.Addr().Zone() != "" {
			t.Fatalf("%q is taken as %v", s, p)
		}
		if again, err := ParsePrefix(p.String()); err != nil || again != p {
			t.Fatalf("%v reads back as %v, %v", p, again, err)
		}
		if a, err := netip.ParseAddr(s); err == nil && !p.Contains(a.Unmap()) {
			t.Fatalf("%v is not in %v", a, p)
		}
	})
}

func TestClosest(t *testing.T) {
	p := &plan{servers: map[string]map[string]*group{}}
	for _, z := range []string{".", "test.", "a.test."} {
		p.group("dns://:53", z).join(&block{})
	}
	for name, want := range map[string]string{
		".": ".", "x.": ".", "test.": "test.", "xtest.": ".", "b.test.": "test.", "A.Test.": "a.test.", "x.y.a.test.": "a.test.", `x\.a.test.`: "test.",
	} {
		if g := p.closest("dns://:53", name); g == nil || g.zone != want {
			t.Errorf("%s: %v, want %s", name, g, want)
		}
	}
	if g := p.closest("tls://:853", "a.test."); g != nil {
		t.Errorf("another listener's zone: %v", g.zone)
	}
}
