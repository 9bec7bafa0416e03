package names_test

import (
	"bufio"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/names"
)

func TestVectors(t *testing.T) {
	f, err := os.Open("testdata/vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var z *names.Zone
	n := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		line := strings.TrimSpace(s.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if rest, ok := strings.CutPrefix(line, "zone "); ok {
			z = vectorZone(t, strings.Fields(rest))
			continue
		}
		name, want, ok := strings.Cut(line, " => ")
		if !ok {
			t.Fatalf("no vector: %q", line)
		}
		name = strings.TrimSpace(name)
		q, below := z.Parse(name)
		got := "not below"
		if below {
			got = render(q)
		}
		if got != strings.TrimSpace(want) {
			t.Errorf("%s in %s: got %q, want %q", name, z.Origin, got, want)
		}
		n++
	}
	if n < 100 {
		t.Errorf("only %d vectors were read", n)
	}
}

func vectorZone(t *testing.T, w []string) *names.Zone {
	z := mustZone(t, w[0])
	for _, a := range w[1:] {
		switch k, v, _ := strings.Cut(a, "="); k {
		case "datacenter":
			z.Datacenter = v
		case "short":
			z.Short = true
		case "ns":
			z.NS = v
		default:
			t.Fatalf("zone: %q", a)
		}
	}
	return z
}

func render(q names.Question) string {
	s := q.Kind.String()
	for _, f := range []struct{ k, v string }{{"name", q.Name}, {"tag", q.Tag}, {"label", q.Label}, {"port", q.Port}} {
		if f.v != "" {
			s += " " + f.k + "=" + f.v
		}
	}
	if q.Addr.IsValid() {
		s += " addr=" + q.Addr.String()
	}
	for _, f := range []struct {
		k  string
		on bool
	}{{"rfc2782", q.RFC2782}, {"srv_only", q.SRVOnly}, {"tasks", q.Tasks}, {"short", q.Short}} {
		if f.on {
			s += " " + f.k
		}
	}
	return s
}

func TestParseReverse(t *testing.T) {
	six := "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa."
	tests := []struct{ name, want string }{
		{"1.0.0.10.in-addr.arpa.", "10.0.0.1"},
		{"1.0.0.10.IN-ADDR.arpa", "10.0.0.1"},
		{"255.255.255.255.in-addr.arpa.", "255.255.255.255"},
		{"256.0.0.10.in-addr.arpa.", ""},
		{"01.0.0.10.in-addr.arpa.", ""},
		{"0.0.10.in-addr.arpa.", ""},
		{"x.1.0.0.10.in-addr.arpa.", ""},
		{"1-4.0.0.10.in-addr.arpa.", ""},
		{"in-addr.arpa.", ""},
		{six, "fd00::2"},
		{strings.ToUpper(six), "fd00::2"},
		{"0." + six, ""},
		{six[2:], ""},
		{strings.Replace(six, "d.f", "dxf", 1), ""},
		{strings.Replace(six, "d.f", "g.f", 1), ""},
		{"example.com.", ""},
	}
	for _, tt := range tests {
		got, ok := names.ParseReverse(tt.name)
		if ok != (tt.want != "") || ok && got.String() != tt.want {
			t.Errorf("%s: got %v %v, want %q", tt.name, got, ok, tt.want)
		}
	}
	for _, a := range []string{"192.0.2.1", "2001:db8::dead:beef", "::1"} {
		rev, err := dns.ReverseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := names.ParseReverse(rev); !ok || got != netip.MustParseAddr(a) {
			t.Errorf("%s: got %v %v", rev, got, ok)
		}
	}
}

func TestReserved(t *testing.T) {
	for _, w := range []string{"service", "DC", "tasks", "ns", "query"} {
		if !names.Reserved(w) {
			t.Errorf("%q is not reserved", w)
		}
	}
	if names.Reserved("dc1") {
		t.Error("dc1 is reserved")
	}
}

// FuzzParse: whatever the octets of a QNAME, parsing ends, is blind to case, and what it
// makes can be answered and packed under the same name.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"\x03web\x07service\x08internal\x00", "\x04_web\x04_tcp\x06consul\x00", "\x080a000001\x04addr\x08internal\x00",
		"\x011\x010\x010\x02127\x07in-addr\x04arpa\x00", "\x02n1\x04node\x03dc1\x02dc\x08internal\x00", "\x00",
		"\x04a.b\\\x03web\x07service\x08internal\x00",
	} {
		f.Add([]byte(s), uint16(1))
	}
	view := sceneView()
	f.Fuzz(func(t *testing.T, wire []byte, qtype uint16) {
		name, _, err := dns.UnpackDomainName(wire, 0)
		if err != nil {
			return
		}
		for _, origin := range []string{"internal.", "consul."} {
			z := mustZone(t, origin)
			z.Short = true
			q, ok := z.Parse(name)
			up, upOK := z.Parse(strings.ToUpper(name))
			if q != up || ok != upOK {
				t.Fatalf("%q: %+v, in capitals %+v", name, q, up)
			}
			if !ok {
				continue
			}
			checkReply(t, z, view.Load(), q, name, qtype)
		}
	})
}

// checkReply packs the answer and reads it back.
func checkReply(t testing.TB, z *names.Zone, s *registry.Snapshot, q names.Question, name string, qtype uint16) {
	t.Helper()
	a := z.Answer(s, q, names.Query{Name: name, Type: qtype, Rand: names.Global})
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.Answer, m.Ns, m.Extra = a.Answer, a.Authority, a.Additional
	names.Fit(m, 1232)
	wire, err := m.Pack()
	if err != nil {
		t.Fatalf("%q: %v", name, err)
	}
	if len(wire) > 1232 {
		t.Fatalf("%q: %d octets", name, len(wire))
	}
	got := new(dns.Msg)
	if err := got.Unpack(wire); err != nil {
		t.Fatalf("%q: %v", name, err)
	}
	for _, rr := range got.Answer {
		if rr.Header().Name != name {
			t.Fatalf("owner %q of an answer to %q", rr.Header().Name, name)
		}
	}
	if (a.Status == names.Data) != (len(a.Answer) > 0) || a.Status > names.Data && len(a.Authority) != 1 {
		t.Fatalf("%q: %v with %d and %d RRs", name, a.Status, len(a.Answer), len(a.Authority))
	}
}
