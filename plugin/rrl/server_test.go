package rrl_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"

	"github.com/resolverd/resolverd/corefile"
	"github.com/resolverd/resolverd/internal/testnet"
	"github.com/resolverd/resolverd/plugin/fastpath"
)

// upstream answers every name with an address.
func upstream(t *testing.T) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		rr, _ := dns.NewRR(r.Question[0].Name + " 300 IN A 192.0.2.7")
		m.Answer = []dns.RR{rr}
		if o := r.IsEdns0(); o != nil {
			m.SetEdns0(1232, o.Do())
			if len(o.Option) > 0 {
				m.Rcode, m.Answer = dns.RcodeRefused, nil // nobody else's cookie comes here
			}
		}
		w.WriteMsg(m)
	})}
	go srv.ActivateAndServe()
	t.Cleanup(func() { srv.Shutdown() })
	return pc.LocalAddr().String()
}

// serve serves a block with rrl, and returns its address when it answers.
func serve(t *testing.T, rrl, more string) string {
	t.Helper()
	port := testnet.Port(t)
	file := filepath.Join(t.TempDir(), "Corefile")
	text := fmt.Sprintf(".:%s {\nbind 127.0.0.1\nrrl {\nloopback\n%s\n}\ncache\nforward . %s\n%s\n}\n", port, rrl, upstream(t), more)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := corefile.Start(corefile.Config{Source: corefile.Source{File: file}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	addr := "127.0.0.1:" + port
	for range 5 { // until it is learnt
		if _, err := exchange("udp", "127.200.0.1", addr, query("a.test.")); err != nil {
			t.Fatal(err)
		}
	}
	return addr
}

func query(name string) *dns.Msg { return new(dns.Msg).SetQuestion(name, dns.TypeA) }

// exchange asks from an address.
func exchange(network, from, to string, m *dns.Msg) (*dns.Msg, error) {
	c := &dns.Client{Net: network, Timeout: 2 * time.Second, Dialer: &net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}}
	if network == "tcp" {
		c.Dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	r, _, err := c.Exchange(m, to)
	return r, err
}

// flood sends n queries from an address at once, and returns how many replies were whole
// and how many empty with TC.
func flood(t *testing.T, from, to string, n int) (whole, empty int) {
	t.Helper()
	raddr := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to))
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, raddr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p, err := query("a.test.").Pack()
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		if _, err := c.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 1500)
	c.SetReadDeadline(time.Now().Add(2 * time.Second))
	for {
		n, err := c.Read(buf)
		if err != nil {
			return whole, empty
		}
		if buf[2]&2 != 0 && n <= len(p) {
			empty++
		} else {
			whole++
		}
		c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	}
}

// TestFlood floods from one prefix: it gets its rate, and some TC. The others, and who
// shows where he is, are answered meanwhile.
func TestFlood(t *testing.T) {
	for name, more := range map[string]string{"fast path": "", "chain": "fastpath off"} {
		t.Run(name, func(t *testing.T) {
			addr := serve(t, "responses 1\nburst 20s\nslip 4", more)
			begin := time.Now()
			const sent = 150 // what the queue of a socket has room for
			whole, empty := flood(t, "127.1.0.1", addr, sent)
			if most := 21 + int(time.Since(begin).Seconds()); whole < 20 || whole > most {
				t.Errorf("%d whole replies, want 20 to %d", whole, most)
			}
			if want := (sent - whole) / 4; empty != want {
				t.Errorf("%d of %d refused are empty, want every fourth", empty, sent-whole)
			}
			flood(t, "127.1.0.99", addr, 100) // of the same /24
			for what, ask := range map[string]func() (*dns.Msg, error){
				"another prefix":            func() (*dns.Msg, error) { return exchange("udp", "127.1.1.1", addr, query("a.test.")) },
				"TCP from the same address": func() (*dns.Msg, error) { return exchange("tcp", "127.1.0.1", addr, query("a.test.")) },
			} {
				if r, err := ask(); err != nil || len(r.Answer) != 1 {
					t.Errorf("%s: %v, %v", what, r, err)
				}
			}
			// A client with cookies learns ours by BADCOOKIE, and is known from then on.
			flood(t, "127.1.0.1", addr, 100)
			m := query("a.test.").SetEdns0(1232, false)
			option := &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "a1a2a3a4a5a6a7a8"}
			m.IsEdns0().Option = []dns.EDNS0{option}
			for i := range 50 {
				r, err := exchange("udp", "127.1.0.1", addr, m)
				if err != nil || r.IsEdns0() == nil || len(r.IsEdns0().Option) != 1 {
					t.Fatalf("%d: %v, %v", i, r, err)
				}
				if i > 0 && (r.Rcode != dns.RcodeSuccess || len(r.Answer) != 1) {
					t.Fatalf("%d, with the cookie: %v", i, r)
				}
				option.Cookie = r.IsEdns0().Option[0].(*dns.EDNS0_COOKIE).Cookie
				if len(option.Cookie) != 48 {
					t.Fatalf("cookie %q", option.Cookie)
				}
			}
			// It is another's nowhere.
			flood(t, "127.1.2.1", addr, 100)
			if r, err := exchange("udp", "127.1.2.1", addr, m); err == nil && len(r.Answer) > 0 {
				t.Errorf("a stolen cookie is taken: %v", r)
			}
		})
	}
}

func TestMalformed(t *testing.T) {
	addr := serve(t, "responses 100", "")
	for _, network := range []string{"udp", "tcp"} {
		for _, n := range []int{0, 1, 7, 9, 15, 41, 100} {
			m := query("a.test.").SetEdns0(1232, false)
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: strings.Repeat("ab", n)}}
			if r, err := exchange(network, "127.1.0.1", addr, m); err != nil || r.Rcode != dns.RcodeFormatError {
				t.Errorf("%s, %d octets: %v, %v", network, n, r, err)
			}
		}
	}
}

// TestSpoofedPrefixes floods from 50,000 prefixes, plain queries and others. Memory stays,
// and who asks little is answered.
func TestSpoofedPrefixes(t *testing.T) {
	addr := serve(t, "responses 5\nslip 2", "")
	to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr))
	sock, err := net.ListenUDP("udp4", &net.UDPAddr{})
	if err != nil {
		t.Fatal(err)
	}
	defer sock.Close()
	pc := ipv4.NewPacketConn(sock)
	p, err := query("a.test.").Pack()
	if err != nil {
		t.Fatal(err)
	}
	from := make([]byte, 4)
	send := func(i int) {
		binary.BigEndian.PutUint32(from, 127<<24|uint32(i%50_000+256)<<8|1)
		if _, err := pc.WriteTo(p, &ipv4.ControlMessage{Src: from}, to); err != nil {
			t.Fatal(err)
		}
	}
	memory := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for i := range 5000 {
		send(i)
	}
	before := memory()
	for i := range 100_000 {
		send(i)
		if i%200 == 0 { // what the queue of a socket has room for
			from := fmt.Sprintf("127.0.%d.1", i/200%250)
			if r, err := exchange("udp", from, addr, query("a.test.")); err != nil || len(r.Answer) != 1 {
				t.Fatalf("%d: %s, who asks twice, gets %v, %v", i, from, r, err)
			}
		}
	}
	if after := memory(); after > before+2<<20 {
		t.Errorf("memory grew from %d to %d octets", before, after)
	}
}

// TestDig has BIND's and Knot's clients talk to us beyond the rate.
func TestDig(t *testing.T) {
	for name, args := range map[string][]string{
		"dig":  {"+cookie", "+tries=1", "+timeout=2"},
		"kdig": {"+cookie", "+badcookie", "+retry=0", "+time=2", "+nocrypto"},
	} {
		t.Run(name, func(t *testing.T) {
			path, err := exec.LookPath(name)
			if err != nil {
				if os.Getenv("CI") == "true" {
					t.Fatal(err)
				}
				t.Skip(err)
			}
			addr := serve(t, "responses 1\nerrors 100\nslip 1", "fastpath off")
			host, port, _ := net.SplitHostPort(addr)
			flood(t, "127.1.0.1", addr, 20)
			flood(t, "127.1.0.1", addr, 20)
			out, err := exec.Command(path, append([]string{"-b", "127.1.0.1", "-p", port, "@" + host, "a.test.", "A"}, args...)...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range []string{"NOERROR", "192.0.2.7"} {
				if !strings.Contains(string(out), want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			if strings.Contains(strings.ToLower(string(out)), "tcp mode") || !strings.Contains(strings.ToUpper(string(out)), "COOKIE") {
				t.Errorf("not by a cookie:\n%s", out)
			}
			t.Logf("%s", out)
		})
	}
}

// TestStatus: rrl leaves the fast path on, and courses open.
func TestStatus(t *testing.T) {
	addr := serve(t, "responses 100", "")
	for _, l := range fastpath.Current().Listeners {
		if strings.HasSuffix(l.Listener, addr) {
			if !l.On || !l.Blocks[0].On || !l.Blocks[0].Relayed {
				t.Errorf("%+v", l)
			}
			return
		}
	}
	t.Errorf("no listener %s", addr)
}
