package names_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/names"
	"github.com/resolverd/resolverd/registry/names/scene"
	"pgregory.net/rapid"
)

// TestTransferIsTheZone: what is transferred is what is answered, name by name, and a
// name server can load it.
func TestTransferIsTheZone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawModel(t)
		lines := m.lines() + "node far www.example.com meta.a=b\ninstance far/e ext :1\ninstance far/f web other.example.com:2\nnode box.rack 10.0.0.99\nrole r web n0/id0\n"
		s := scene.New(lines).Load()
		for _, origin := range []string{"internal.", "consul."} {
			z, err := names.NewZone(origin)
			if err != nil {
				t.Fatal(err)
			}
			checkTransfer(t, z, s, lines)
		}
	})
}

func checkTransfer(t *rapid.T, z *names.Zone, s *registry.Snapshot, lines string) {
	type rrset struct {
		owner string
		rtype uint16
	}
	sets := map[rrset][]string{}
	types := map[string][]uint16{}
	var last string
	for rrs := range z.Transfer(s, []netip.Addr{netip.MustParseAddr("192.0.2.53")}) {
		for _, rr := range rrs {
			h := rr.Header()
			if h.Name != last && len(types[h.Name]) > 0 && h.Rrtype != dns.TypeSOA && h.Name != z.Origin {
				t.Fatalf("%s comes twice", h.Name)
			}
			last = h.Name
			if !slices.Contains(types[h.Name], h.Rrtype) {
				types[h.Name] = append(types[h.Name], h.Rrtype)
			}
			sets[rrset{h.Name, h.Rrtype}] = append(sets[rrset{h.Name, h.Rrtype}], rr.String())
		}
	}
	for set, got := range sets {
		if set.rtype == dns.TypeSOA {
			if len(got) != 2 {
				t.Fatalf("%d SOA", len(got))
			}
			continue
		}
		if set.rtype == dns.TypeCNAME && len(types[set.owner]) > 1 {
			t.Fatalf("CNAME with others at %s", set.owner)
		}
		q, _ := z.Parse(set.owner)
		a := z.Answer(s, q, names.Query{Name: set.owner, Type: set.rtype, Rand: names.Global, Local: netip.MustParseAddr("192.0.2.53")})
		var want []string
		for _, rr := range a.Answer {
			want = append(want, rr.String())
		}
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%v\n%s\n%s", set, diff, lines)
		}
	}
	// Every target of ours is in the zone.
	for set, rrs := range sets {
		for _, rr := range rrs {
			target := strings.Fields(rr)[len(strings.Fields(rr))-1]
			if set.rtype == dns.TypeSRV && strings.HasSuffix(target, "."+z.Origin) && len(types[target]) == 0 {
				t.Fatalf("target %s is not in the zone", target)
			}
		}
	}
}

func TestTransferStops(t *testing.T) {
	z := mustZone(t, "internal.")
	n := 0
	for range z.Transfer(many(100).Load(), nil) {
		if n++; n == 5 {
			break
		}
	}
	if n != 5 {
		t.Error(n)
	}
}
