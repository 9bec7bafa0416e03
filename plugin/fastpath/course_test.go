package fastpath_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	caches "github.com/resolverd/resolverd/plugin/cache"
	"github.com/resolverd/resolverd/plugin/fastpath"
)

// shapes is an upstream whose replies have all shapes, good and bad, each known from the
// first label of the name. It is plain about compression, or not.
type shapes struct{ compress bool }

var shapeNames = []string{"a", "many", "alias", "loop", "nodata", "nx", "nxalias", "fail", "refuse", "cut", "mx", "txt", "srv", "https", "ptr", "zero", "extra", "authority", "ede", "odd", "large"}

func (s shapes) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	m := new(dns.Msg).SetReply(r)
	m.RecursionAvailable, m.AuthenticatedData, m.Compress = true, true, s.compress
	q := r.Question[0]
	shape, rest, _ := strings.Cut(strings.ToLower(q.Name), "-")
	_, zone, _ := strings.Cut(rest, ".")
	if o := r.IsEdns0(); o != nil {
		m.SetEdns0(1232, o.Do())
	}
	answer := func(format string, args ...any) {
		if rr, err := dns.NewRR(fmt.Sprintf(format, args...)); err == nil {
			m.Answer = append(m.Answer, rr)
		}
	}
	soa, _ := dns.NewRR("test. 300 IN SOA ns.test. host.test. 1 2 3 4 20")
	switch shape {
	case "a":
		answer("%s 300 IN A 192.0.2.1", q.Name)
	case "many":
		for i := range 20 {
			answer("%s 300 IN A 192.0.2.%d", q.Name, i)
		}
	case "alias":
		answer("%s 70 IN CNAME x.%s", q.Name, zone)
		answer("x.%s 7200 IN CNAME y.%s", zone, q.Name)
		answer("y.%s 90 IN A 192.0.2.9", q.Name)
	case "loop":
		answer("%s 70 IN CNAME x.%s", q.Name, zone)
		answer("x.%s 70 IN CNAME %s", zone, q.Name)
	case "nodata":
		m.Ns = []dns.RR{soa}
	case "nx":
		m.Rcode, m.Ns = dns.RcodeNameError, []dns.RR{soa}
	case "nxalias":
		answer("%s 70 IN CNAME gone.%s", q.Name, zone)
		m.Rcode, m.Ns = dns.RcodeNameError, []dns.RR{soa}
	case "fail":
		m.Rcode = dns.RcodeServerFailure
	case "refuse":
		m.Rcode = dns.RcodeRefused
	case "cut":
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
			m.Truncated = true
			break
		}
		answer("%s 300 IN A 192.0.2.3", q.Name)
	case "mx":
		answer("%s 300 IN MX 5 mail.%s", q.Name, q.Name)
	case "txt":
		answer("%s 300 IN TXT \"one\" \"two\"", q.Name)
	case "srv":
		answer("%s 300 IN SRV 1 2 3 host.%s", q.Name, q.Name)
	case "https":
		answer("%s 300 IN HTTPS 1 . alpn=h2", q.Name)
	case "ptr":
		answer("%s 300 IN PTR %s", q.Name, q.Name)
	case "zero":
		answer("%s 0 IN A 192.0.2.4", q.Name)
	case "extra":
		answer("%s 300 IN A 192.0.2.5", q.Name)
		rr, _ := dns.NewRR("ns.test. 300 IN A 192.0.2.53")
		m.Extra = append(m.Extra, rr)
	case "authority":
		answer("%s 300 IN A 192.0.2.6", q.Name)
		rr, _ := dns.NewRR("test. 300 IN NS ns.test.")
		m.Ns = []dns.RR{rr}
	case "ede":
		answer("%s 300 IN A 192.0.2.7", q.Name)
		if o := m.IsEdns0(); o != nil {
			o.Option = append(o.Option, &dns.EDNS0_EDE{InfoCode: 4, ExtraText: "forged"})
		}
	case "odd":
		answer("other.test. 300 IN A 192.0.2.8")
	case "large":
		for i := range 9 {
			answer("%s 300 IN TXT \"%d%s\"", q.Name, i, strings.Repeat("x", 100))
		}
	}
	if len(m.Answer) > 0 && q.Qtype != m.Answer[len(m.Answer)-1].Header().Rrtype && shape != "nxalias" && shape != "loop" {
		m.Answer, m.Ns, m.Extra = nil, []dns.RR{soa}, m.Extra[len(m.Extra)-min(len(m.Extra), 1):]
	}
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		m.Truncate(1232)
	}
	w.WriteMsg(m)
}

// startShapes runs the upstream over UDP and TCP.
func startShapes(t *testing.T, s shapes) string {
	t.Helper()
	for range 20 {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", pc.LocalAddr().String())
		if err != nil {
			pc.Close()
			continue
		}
		for _, d := range []*dns.Server{{PacketConn: pc, Handler: s}, {Listener: l, Handler: s}} {
			go d.ActivateAndServe()
			t.Cleanup(func() { d.Shutdown() })
		}
		return pc.LocalAddr().String()
	}
	t.Fatal("no port for both")
	return ""
}

// TestCoursesDiffer from the chain in no octet: each question is asked four times of both,
// so that it is relayed, answered from the cache, learnt and repeated where the fast path
// is on; then again when it has expired, and after a flush.
func TestCoursesDiffer(t *testing.T) {
	for _, compress := range []bool{true, false} {
		t.Run(fmt.Sprintf("compress %t", compress), func(t *testing.T) {
			up := startShapes(t, shapes{compress})
			fast, slow := freePort(t), freePort(t)
			block := func(port, off string) string {
				return fmt.Sprintf(".:%s {\nbind 127.0.0.1\nerrors\nprometheus 127.0.0.1:%s\nhorizon all 127.0.0.0/8\n%s\ncache {\nsuccess 0 3600 0\ndenial 0 3600 0\nttl short.test 0 1\n}\nforward . %s\n}\n",
					port, freePort(t), off, up)
			}
			run(t, defineOnce(block(fast, "")+block(slow, "fastpath off")))
			if s := listenerOf(t, fast); !s.On || !s.Blocks[0].Relayed {
				t.Fatalf("%+v", s)
			}
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			r := rand.New(rand.NewPCG(3, seed))
			st := station{dial(t, "127.0.0.1", "127.0.0.1:"+fast), dial(t, "127.0.0.1", "127.0.0.1:"+slow)}
			ask := func(what string, packets [][]byte) {
				t.Helper()
				f, s := exchange(t, st.fast, packets), exchange(t, st.slow, packets)
				for i, p := range packets {
					if d := compare(f[i], s[i], false); d != "" {
						m := new(dns.Msg)
						m.Unpack(p)
						t.Errorf("%s:\n%s\nwith the fast path, and without:%s", what, m, d)
					}
				}
			}
			types := []uint16{dns.TypeA, dns.TypeA, dns.TypeA, dns.TypeAAAA, dns.TypeMX, dns.TypeTXT, dns.TypeSRV, dns.TypeHTTPS, dns.TypePTR, dns.TypeNS, dns.TypeDS}
			own := map[string]uint16{"mx": dns.TypeMX, "txt": dns.TypeTXT, "srv": dns.TypeSRV, "https": dns.TypeHTTPS, "ptr": dns.TypePTR, "large": dns.TypeTXT}
			var asked [][]byte
			for i := range 400 {
				shape := shapeNames[i%len(shapeNames)]
				zone := "long.test."
				if i%5 == 0 {
					zone = "short.test."
				}
				name := fmt.Sprintf("%s-%d.%s", shape, i, zone)
				if r.IntN(4) == 0 {
					name = strings.ToUpper(name)
				}
				m := new(dns.Msg).SetQuestion(name, types[r.IntN(len(types))])
				if t := own[shape]; t != 0 && r.IntN(4) > 0 {
					m.Question[0].Qtype = t
				}
				m.RecursionDesired = r.IntN(8) > 0
				m.CheckingDisabled = r.IntN(8) == 0
				m.AuthenticatedData = r.IntN(4) == 0
				if r.IntN(3) > 0 {
					m.SetEdns0([]uint16{512, 600, 1232, 4096}[r.IntN(4)], r.IntN(4) == 0)
				}
				p, err := m.Pack()
				if err != nil {
					t.Fatal(err)
				}
				asked = append(asked, p)
			}
			all := func(what string) {
				t.Helper()
				for i := 0; i < len(asked) && !t.Failed(); i += 40 {
					var packets [][]byte
					for n, p := range asked[i:min(i+40, len(asked))] {
						binary.BigEndian.PutUint16(p, uint16(n))
						packets = append(packets, p)
					}
					ask(what, packets)
				}
			}
			for _, what := range []string{"asked first", "asked again", "asked a third time", "asked a fourth time"} {
				all(what)
			}
			if s := listenerOf(t, fast); s.Relayed < 100 || s.Hits < 100 {
				t.Errorf("too little was compared: %+v", s)
			}
			expire := time.NewTimer(1100 * time.Millisecond)
			<-expire.C
			all("asked after a second, when some has expired")
			caches.Each(func(c *caches.Store) { c.Flush() })
			all("asked after a flush")
			all("asked after that")
		})
	}
}

// TestWhereNothingIsRelayed says why.
func TestWhereNothingIsRelayed(t *testing.T) {
	for name, c := range map[string]struct{ lines, why string }{
		"relayed":       {"cache\nforward . 127.0.0.1:1", ""},
		"no cache":      {"registry internal.\nforward . 127.0.0.1:1", "cache is not in it"},
		"no forward":    {"cache\nwhoami", "whoami sees each message"},
		"another":       {"cache\nminimal\nforward . 127.0.0.1:1", "minimal sees each message"},
		"chain":         {"cache\nforward . 127.0.0.1:1 {\nchain SERVFAIL\n}\nwhoami", "sees each message"},
		"disabled":      {"cache {\ndisable denial\n}\nforward . 127.0.0.1:1", "does not keep"},
		"other names":   {"cache other.test\nforward . 127.0.0.1:1", "does not cover"},
		"off":           {"fastpath off\ncache\nforward . 127.0.0.1:1", "fastpath off"},
		"two forwards":  {"cache\nforward corp.test 127.0.0.1:2\nforward . 127.0.0.1:1", ""},
		"consul beside": {"cache\nconsul\nspecialuse\nforward . 127.0.0.1:1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			port := freePort(t)
			run(t, fmt.Sprintf(".:%s {\nbind 127.0.0.1\n%s\n}\n.:%s {\nbind 127.0.0.2\ncache\nwhoami\n}\n", port, c.lines, port))
			var b *fastpath.BlockStatus
			for range 500 {
				for _, l := range fastpath.Current().Listeners {
					if l.Listener == "dns://127.0.0.1:"+port {
						b = &l.Blocks[0]
					}
				}
				if b != nil {
					break
				}
				<-time.After(10 * time.Millisecond)
			}
			if b == nil {
				t.Fatal("no listener")
			}
			if b.Relayed != (c.why == "") || !strings.Contains(b.RelayReason, c.why) {
				t.Errorf("%+v", *b)
			}
		})
	}
}
