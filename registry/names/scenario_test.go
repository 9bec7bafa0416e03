package names_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/miekg/dns"
	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/names"
	"github.com/resolverd/resolverd/registry/names/scene"
)

// TestScenarios runs the files in testdata/scenarios: lines of a registry, settings of a
// zone, and queries with their whole replies.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		v := registry.NewView()
		z := mustZone(t, "internal.")
		rng := rand.New(rand.NewPCG(1, 2))
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "registry":
				if err := scene.Apply(v, d.Input); err != nil {
					t.Fatal(err)
				}
				return fmt.Sprintf("revision %d serial %d\n", v.Load().Revision, v.Load().Serial)
			case "zone":
				z = zoneOf(t, d)
				return "ok\n"
			case "query":
				return query(t, z, v, rng, d)
			case "transfer":
				var b strings.Builder
				for rrs := range z.Transfer(v.Load(), []netip.Addr{netip.MustParseAddr("192.0.2.53")}) {
					for _, rr := range rrs {
						b.WriteString(rr.String() + "\n")
					}
				}
				return b.String()
			}
			t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
			return ""
		})
	})
}

func mustZone(t testing.TB, origin string) *names.Zone {
	t.Helper()
	z, err := names.NewZone(origin)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// zoneOf reads `zone ORIGIN [short] [exclusive] [ttl=5s] [ttl.NAME=10s] ...`.
func zoneOf(t *testing.T, d *datadriven.TestData) *names.Zone {
	z := mustZone(t, d.CmdArgs[0].Key)
	for _, a := range d.CmdArgs[1:] {
		option, of, _ := strings.Cut(a.Key, ".")
		var value string
		if len(a.Vals) > 0 {
			value = a.Vals[0]
		}
		var err error
		switch option {
		case "short":
			z.Short = true
		case "exclusive":
			z.Exclusive = true
		case "srv_drain_omit":
			z.OmitDraining = true
		case "datacenter":
			z.Datacenter = value
		case "ns":
			z.NS = value
		case "ttl":
			err = setRule(&z.TTL, of, mustDuration(t, value))
		case "negative_ttl":
			err = setRule(&z.NegativeTTL, of, mustDuration(t, value))
		case "only_passing":
			err = setRule(&z.OnlyPassing, of, true)
		case "last_good":
			err = setRule(&z.LastGood, of, true)
		default:
			t.Fatalf("%s: unknown setting %q", d.Pos, a.Key)
		}
		if err != nil {
			t.Fatalf("%s: %v", d.Pos, err)
		}
	}
	if err := z.Validate(); err != nil {
		t.Fatalf("%s: %v", d.Pos, err)
	}
	return z
}

func setRule[T any](r *names.Rules[T], of string, v T) error {
	if of == "" {
		r.Default = v
		return nil
	}
	return r.Set(of, v)
}

func mustDuration(t *testing.T, s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// query reads `query NAME TYPE [size=N]` and prints the reply as it would be sent.
func query(t *testing.T, z *names.Zone, v *registry.View, rng names.Rand, d *datadriven.TestData) string {
	name, qtype := d.CmdArgs[0].Key, dns.StringToType[d.CmdArgs[1].Key]
	size := 65535
	for _, a := range d.CmdArgs[2:] {
		if a.Key == "size" {
			size, _ = strconv.Atoi(a.Vals[0])
		}
	}
	ask := names.Query{Name: name, Type: qtype, Rand: rng, Local: netip.MustParseAddr("192.0.2.53"), Limit: names.MaxRRs(size)}
	var a names.Answer
	if addr, ok := names.ParseReverse(name); ok {
		a = z.Reverse(v.Load(), addr, ask)
	} else if q, ok := z.Parse(name); ok {
		a = z.Answer(v.Load(), q, ask)
	}
	if a.Status == names.NotOurs {
		return "passed on\n"
	}
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.Response, m.Authoritative = true, true
	if a.Status == names.NoName {
		m.Rcode = dns.RcodeNameError
	}
	m.Answer, m.Ns, m.Extra = a.Answer, a.Authority, a.Additional
	names.Fit(m, size)
	return text(t, m, a)
}

func text(t *testing.T, m *dns.Msg, a names.Answer) string {
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	got := new(dns.Msg)
	if err := got.Unpack(wire); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(dns.RcodeToString[got.Rcode])
	for _, f := range []struct {
		on   bool
		name string
	}{{got.Truncated, " tc"}, {a.Chase != "", " chase=" + a.Chase}, {a.LastGood, " last_good"}, {a.Random, " random"}} {
		if f.on {
			b.WriteString(f.name)
		}
	}
	b.WriteString("\n")
	for _, s := range []struct {
		name string
		rrs  []dns.RR
	}{{"answer", got.Answer}, {"authority", got.Ns}, {"additional", got.Extra}} {
		for _, rr := range s.rrs {
			fmt.Fprintf(&b, "%s: %s\n", s.name, strings.ReplaceAll(rr.String(), "\t", " "))
		}
	}
	return b.String()
}
