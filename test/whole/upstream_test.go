package whole

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const zoneFile = `$ORIGIN example.test.
$TTL 300
@     SOA ns hostmaster 1 3600 600 86400 30
@     NS  ns
ns    A   192.0.2.1
www   A   192.0.2.80
short 7 A 192.0.2.7
zero  0 A 192.0.2.9
alias CNAME www
big   TXT "%s"
`

// startNSD runs nsd as the upstream on 127.0.0.1:5399, authoritative for example.test.
func startNSD(t testing.TB) *process {
	t.Helper()
	dir := shortDir(t)
	long := strings.Repeat("x", 250)
	text := fmt.Sprintf(zoneFile, long)
	for range 10 {
		text += "big   TXT \"" + long + fmt.Sprint(len(text)) + "\"\n"
	}
	zone := write(t, filepath.Join(dir, "example.test.zone"), text)
	conf := write(t, filepath.Join(dir, "nsd.conf"), fmt.Sprintf(`
server:
  ip-address: 127.0.0.1@5399
  username: ""
  chroot: ""
  zonesdir: "%[1]s"
  database: ""
  pidfile: "%[1]s/nsd.pid"
  xfrdfile: "%[1]s/xfrd.state"
  zonelistfile: "%[1]s/zone.list"
  server-count: 1
  hide-version: yes
remote-control:
  control-enable: no
zone:
  name: example.test.
  zonefile: %[2]s
`, dir, zone))
	p := spawn(t, peer(t, "nsd"), "-d", "-c", conf)
	eventually(t, 10*time.Second, "nsd answers", func() error {
		r, err := exchangeAt("udp", "127.0.0.1:5399", "", query("www.example.test", dns.TypeA))
		if err == nil && len(r.Answer) != 1 {
			err = errNot
		}
		return err
	})
	return p
}

func TestForwardAndCache(t *testing.T) {
	upstream := startNSD(t)
	p := start(t, plainCorefile)
	expect(t, 2*time.Second, "www.example.test", dns.TypeA, "NOERROR", "192.0.2.80")
	expect(t, time.Second, "alias.example.test", dns.TypeA, "NOERROR", "www.example.test.", "192.0.2.80")
	expect(t, time.Second, "nothere.example.test", dns.TypeA, "NXDOMAIN")
	expect(t, time.Second, "www.example.test", dns.TypeAAAA, "NOERROR")

	// Too long for UDP: whole over TCP, and over UDP cut with TC set.
	r, err := exchange("tcp", query("big.example.test", dns.TypeTXT))
	if err != nil || len(r.Answer) != 11 {
		t.Fatalf("big over TCP: %d answers, %v", len(r.Answer), err)
	}
	small := query("big.example.test", dns.TypeTXT)
	small.SetEdns0(512, false)
	if r, err = exchange("udp", small); err != nil || !r.Truncated || r.Len() > 512 {
		t.Fatalf("big over UDP in 512 octets: TC %v, %d octets, %v", r.Truncated, r.Len(), err)
	}

	// From the cache when the upstream is gone, TTL counting down; nothing else is.
	upstream.stop(t)
	expect(t, time.Second, "www.example.test", dns.TypeA, "NOERROR", "192.0.2.80")
	expect(t, time.Second, "nothere.example.test", dns.TypeA, "NXDOMAIN")
	q := query("never.example.test", dns.TypeA)
	q.SetEdns0(1232, false)
	if r, err = exchange("udp", q); err != nil || r.Rcode != dns.RcodeServerFailure || len(ede(r)) == 0 {
		t.Fatalf("upstream gone: want SERVFAIL with an EDE, got %v %v", r, err)
	}

	// What is flushed is gone for the next query.
	if out := p.cli(t, "cache", "stats", "--data-dir", p.data); !strings.Contains(out, "ANSWERS") {
		t.Errorf("cache stats:\n%s", out)
	}
	p.cli(t, "cache", "flush", "--suffix", "example.test", "--data-dir", p.data)
	if rcode, _ := ask(t, "www.example.test", dns.TypeA); rcode != "SERVFAIL" {
		t.Errorf("after the flush www.example.test gives %s", rcode)
	}
}

// The cache is there again after a restart, without what was flushed, and after a kill as
// it was written last.
func TestCacheOutlivesARestart(t *testing.T) {
	upstream := startNSD(t)
	dir := shortDir(t)
	p := startIn(t, dir, plainCorefile)
	expect(t, 2*time.Second, "www.example.test", dns.TypeA, "NOERROR", "192.0.2.80")
	expect(t, time.Second, "alias.example.test", dns.TypeA, "NOERROR", "www.example.test.", "192.0.2.80")
	expect(t, time.Second, "nothere.example.test", dns.TypeA, "NXDOMAIN")
	upstream.stop(t)
	p.stop(t)

	p = startIn(t, dir, plainCorefile)
	expect(t, time.Second, "www.example.test", dns.TypeA, "NOERROR", "192.0.2.80")
	expect(t, time.Second, "alias.example.test", dns.TypeA, "NOERROR", "www.example.test.", "192.0.2.80")
	expect(t, time.Second, "nothere.example.test", dns.TypeA, "NXDOMAIN")
	if out := p.cli(t, "cache", "stats", "--zones", "3", "--data-dir", p.data); !strings.Contains(out, "example.test.") {
		t.Errorf("cache stats --zones:\n%s", out)
	}
	p.cli(t, "cache", "flush", "alias.example.test", "--data-dir", p.data)
	eventually(t, 5*time.Second, "the rest is written", func() error {
		if out := p.cli(t, "cache", "stats", "--json", "--data-dir", p.data); !strings.Contains(out, `"written": "20`) {
			return errors.New(out)
		}
		return nil
	})
	_ = p.Process.Kill() // the supervisor; what it started ends with it
	<-p.done

	p = startIn(t, dir, plainCorefile)
	expect(t, time.Second, "www.example.test", dns.TypeA, "NOERROR", "192.0.2.80")
	if rcode, _ := ask(t, "alias.example.test", dns.TypeA); rcode != "SERVFAIL" {
		t.Errorf("flushed before the kill, and after it %s", rcode)
	}
}

func TestResolvConfIsFollowed(t *testing.T) {
	startNSD(t)
	dir := shortDir(t)
	conf := write(t, filepath.Join(dir, "resolv.conf"), "nameserver 127.0.0.77\n") // nobody listens there
	start(t, strings.ReplaceAll(plainCorefile, "forward . 127.0.0.1:5399", "forward . "+conf))
	spawnRelay(t, "127.0.0.53:53", "127.0.0.1:5399")
	write(t, conf+".new", "nameserver 127.0.0.53\n")
	must(t, "mv", conf+".new", conf)
	expect(t, 10*time.Second, "www.example.test", dns.TypeA, "NOERROR", "192.0.2.80")
	// Emptied, or pointed at us: the last good set stays.
	write(t, conf, "")
	expect(t, 5*time.Second, "short.example.test", dns.TypeA, "NOERROR", "192.0.2.7")
	expect(t, 5*time.Second, "ns.example.test", dns.TypeA, "NOERROR", "192.0.2.1")
}

// spawnRelay answers on one address by asking another: a resolver on port 53 for
// resolv.conf to name.
func spawnRelay(t testing.TB, at, to string) {
	t.Helper()
	s := &dns.Server{Addr: at, Net: "udp", Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		r, err := exchangeAt("udp", to, "", m)
		if err == nil {
			_ = w.WriteMsg(r)
		}
	})}
	up := make(chan struct{})
	s.NotifyStartedFunc = func() { close(up) }
	go func() { _ = s.ListenAndServe() }()
	<-up
	t.Cleanup(func() { _ = s.Shutdown() })
}

func TestHorizons(t *testing.T) {
	dir := shortDir(t)
	inside := write(t, filepath.Join(dir, "inside.zone"), "$ORIGIN split.test.\n@ 60 SOA ns h 1 60 60 60 60\nwww 60 A 10.1.1.1\n")
	outside := write(t, filepath.Join(dir, "outside.zone"), "$ORIGIN split.test.\n@ 60 SOA ns h 1 60 60 60 60\nwww 60 A 203.0.113.1\n")
	start(t, fmt.Sprintf(`
split.test:5300 {
    bind 127.0.0.1
    horizon outside 127.0.0.0/8
    cache
    file %s split.test
}
split.test:5300 {
    bind 127.0.0.1
    horizon inside 127.7.0.0/16 127.8.0.0/16
    cache
    file %s split.test
}
only.test:5300 {
    bind 127.0.0.1
    horizon inside
    template IN A {
        answer "{{ .Name }} 60 IN A 10.2.2.2"
    }
}
.:5300 {
    bind 127.0.0.1
    template IN A {
        answer "{{ .Name }} 60 IN A 198.51.100.1"
    }
}
`, outside, inside))
	cases := []struct{ from, name, rcode, want string }{
		{"127.7.0.1", "www.split.test", "NOERROR", "10.1.1.1"},
		{"127.0.0.1", "www.split.test", "NOERROR", "203.0.113.1"},
		{"127.8.9.9", "www.split.test", "NOERROR", "10.1.1.1"},
		{"127.7.0.1", "x.only.test", "NOERROR", "10.2.2.2"},
		{"127.0.0.1", "x.only.test", "REFUSED", ""},
		{"127.0.0.1", "x.other.test", "NOERROR", "198.51.100.1"},
	}
	for range 3 { // the second and third time from the cache
		for _, c := range cases {
			for _, network := range []string{"udp", "tcp"} {
				r, err := exchangeAt(network, listen, c.from, query(c.name, dns.TypeA))
				if err != nil {
					t.Fatal(err)
				}
				got := strings.Join(rdata(r.Answer), " ")
				if dns.RcodeToString[r.Rcode] != c.rcode || got != c.want {
					t.Errorf("%s from %s over %s: %s %q, want %s %q", c.name, c.from, network, dns.RcodeToString[r.Rcode], got, c.rcode, c.want)
				}
			}
		}
	}
}
