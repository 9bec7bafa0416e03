package names_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/resolverd/resolverd/registry/names"
	"github.com/resolverd/resolverd/registry/names/scene"
)

func TestNewZone(t *testing.T) {
	for _, bad := range []string{"a..b", strings.Repeat("a.", 60), `a\.b.`, strings.Repeat("a", 64) + "."} {
		if _, err := names.NewZone(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	z, err := names.NewZone("Svc.Example.ORG")
	if err != nil || z.Origin != "svc.example.org." || z.Consul || z.TTL.Default != names.DefaultTTL {
		t.Errorf("got %+v, %v", z, err)
	}
	if z := mustZone(t, "Consul"); !z.Consul {
		t.Error("consul. is not Consul's")
	}
}

func TestValidate(t *testing.T) {
	z := mustZone(t, "internal.")
	if err := z.Validate(); err != nil {
		t.Fatal(err)
	}
	z.TTL.Default = -time.Second
	z.Datacenter = "service"
	if err := z.NegativeTTL.Set("web", time.Millisecond); err != nil {
		t.Fatal(err)
	}
	err := z.Validate()
	for _, want := range []string{"negative_ttl of web", "ttl of the zone", `"service"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not tell of %s", err, want)
		}
	}
}

func TestRules(t *testing.T) {
	var r names.Rules[int]
	r.Default = 1
	for i, p := range []string{"web*", "w*", "web-a*", "web", "web*"} {
		if err := r.Set(p, 10*(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]int{"": 1, "db": 1, "WEB": 40, "webx": 50, "wx": 20, "web-a": 30, "web-ab": 30} {
		if got := r.For(name); got != want {
			t.Errorf("%q: got %d, want %d", name, got, want)
		}
	}
	for _, bad := range []string{"", "a b", "*a", "a.b", "a**"} {
		if err := r.Set(bad, 1); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if err := r.Set("*", 7); err != nil || r.For("db") != 7 || r.For("") != 1 {
		t.Error("* is not for all services")
	}
}

func TestSerial(t *testing.T) {
	for revision, want := range map[uint64]uint32{0: 1, 1: 1, 7: 7, math.MaxUint32: math.MaxUint32, 1 << 32: 1, 1<<32 + 5: 5} {
		if got := names.Serial(revision); got != want {
			t.Errorf("%d: got %d, want %d", revision, got, want)
		}
	}
}

// TestEpoch: the epoch of a question moves when its answer may change, and stands still
// when others do.
func TestEpoch(t *testing.T) {
	v := scene.New("node n1 10.0.0.1\ninstance n1/a web :1\ninstance n1/b db :2")
	z := mustZone(t, "internal.")
	read := func() map[string]uint64 {
		out := map[string]uint64{}
		for _, name := range []string{"web.service", "db.service", "gone.service", "n1.node", "service"} {
			q, _ := z.Parse(name + ".internal.")
			out[name] = z.Epoch(v, v.Load(), q).Load()
		}
		return out
	}
	steps := []struct {
		change string
		moved  string
	}{
		{"instance n1/a web :3", "web.service"},
		{"check n1/c a passing", ""},
		{"check n1/c a critical", "web.service"},
		{"node n1 10.0.0.1 meta.a=b", "n1.node web.service db.service"},
		{"instance n1/x new :3", "gone.service service"},
	}
	for _, s := range steps {
		before := read()
		if err := scene.Apply(v, s.change); err != nil {
			t.Fatal(err)
		}
		for name, n := range read() {
			if want := strings.Contains(" "+s.moved+" ", " "+name+" "); (n != before[name]) != want {
				t.Errorf("%s: %s: moved %v, want %v", s.change, name, n != before[name], want)
			}
		}
	}
	role, _ := z.Parse("x.role.internal.")
	if z.Epoch(v, v.Load(), role) != nil {
		t.Error("a role has an epoch")
	}
}
