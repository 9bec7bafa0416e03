package fastpath_test

import (
	"bytes"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	tapmsg "github.com/dnstap/golang-dnstap"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"google.golang.org/protobuf/proto"
)

// tapReceiver is the other end of a dnstap socket; it takes one connection.
func tapReceiver(t *testing.T) (string, <-chan []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	out, done := make(chan []byte, 4096), make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		in, err := tapmsg.NewFrameStreamInput(c, true)
		if err != nil {
			return
		}
		go in.ReadInto(out)
		in.Wait()
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return path, out
}

// tappedLines reads n messages and returns them as lines without times and TTLs, sorted.
func tappedLines(t *testing.T, out <-chan []byte, n int) []string {
	t.Helper()
	var lines []string
	late := time.After(10 * time.Second)
	for len(lines) < n {
		select {
		case frame := <-out:
			d := new(tapmsg.Dnstap)
			if err := proto.Unmarshal(frame, d); err != nil {
				t.Fatal(err)
			}
			m := d.GetMessage()
			if kind := m.GetType(); kind != tapmsg.Message_CLIENT_QUERY && kind != tapmsg.Message_CLIENT_RESPONSE {
				continue
			}
			asked := time.Unix(int64(m.GetQueryTimeSec()), int64(m.GetQueryTimeNsec()))
			if d := time.Since(asked); d < 0 || d > time.Minute {
				t.Errorf("a query %s ago", d)
			}
			if m.GetType() == tapmsg.Message_CLIENT_RESPONSE {
				took := time.Unix(int64(m.GetResponseTimeSec()), int64(m.GetResponseTimeNsec())).Sub(asked)
				if took < 0 || took > 5*time.Second {
					t.Errorf("a response after %s", took)
				}
			}
			m.QueryTimeSec, m.QueryTimeNsec, m.ResponseTimeSec, m.ResponseTimeNsec = nil, nil, nil, nil
			m.QueryMessage, m.ResponseMessage = readable(t, m.QueryMessage), readable(t, m.ResponseMessage)
			lines = append(lines, fmt.Sprintf("%s identity=%q version=%q extra=%q", m, d.Identity, d.Version, d.Extra))
		case <-late:
			t.Fatalf("%d of %d messages", len(lines), n)
		}
	}
	slices.Sort(lines)
	return lines
}

// readable returns the packet with its TTLs, which may have counted on, made even.
func readable(t *testing.T, p []byte) []byte {
	t.Helper()
	if p == nil {
		return nil
	}
	m := new(dns.Msg)
	if err := m.Unpack(p); err != nil {
		t.Fatal(err)
	}
	for _, rrs := range [][]dns.RR{m.Answer, m.Ns} {
		for _, rr := range rrs {
			rr.Header().Ttl = 1
		}
	}
	return fmt.Appendf(nil, "%d octets %s", len(p), m)
}

// TestDnstap asks the same of a listener with and of one without the fast path: what
// dnstap is told is the same.
func TestDnstap(t *testing.T) {
	u := startUpstream(t)
	fast, slow := freePort(t), freePort(t)
	var outs [2][2]<-chan []byte
	text := ""
	for i, l := range []struct{ port, off string }{{fast, ""}, {slow, "fastpath off"}} {
		var full, short string
		full, outs[i][0] = tapReceiver(t)
		short, outs[i][1] = tapReceiver(t)
		text += fmt.Sprintf(`.:%s {
bind 127.0.0.1
bufsize 1300
%s
dnstap %s full {
identity here
}
dnstap unix://%s {
version 7
extra "{remote} {port} {local} {>id} {type} {class} {name} {proto} {size} {>do} {>bufsize} {>opcode} {rcode} {odd}"
}
cache
forward . %s
}
`, l.port, l.off, full, short, u.addr)
	}
	run(t, text)
	if s := listenerOf(t, fast); !s.On {
		t.Fatalf("%+v", s)
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	id, buf := uint16(0), make([]byte, 4096)
	for _, name := range []string{"a.example.test.", "nx.example.test.", "alias.example.test.", "."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeMX, dns.TypeTXT} {
			for _, size := range []uint16{0, 512, 1232, 4096} {
				for round := range 5 {
					m := new(dns.Msg).SetQuestion(name, qtype)
					id++
					m.Id = id
					if size > 0 {
						m.SetEdns0(size, size == 1232)
					}
					if round == 4 {
						m.Question[0].Name = strings.ToUpper(name)
					}
					p, err := m.Pack()
					if err != nil {
						t.Fatal(err)
					}
					for _, port := range []string{fast, slow} {
						to, err := net.ResolveUDPAddr("udp", "127.0.0.1:"+port)
						if err != nil {
							t.Fatal(err)
						}
						if _, err := conn.WriteToUDP(p, to); err != nil {
							t.Fatal(err)
						}
						conn.SetReadDeadline(time.Now().Add(3 * time.Second))
						if _, err := conn.Read(buf); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
		}
	}
	if s := listenerOf(t, fast); s.Hits < uint64(id)/3 {
		t.Errorf("%d hits of %d queries", s.Hits, id)
	}
	for i, kind := range []string{"full", "short"} {
		got, want := tappedLines(t, outs[0][i], 2*int(id)), tappedLines(t, outs[1][i], 2*int(id))
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: without (-) and with the fast path (+):\n%s", kind, d)
		}
	}
}

// TestNSID: who asks for the server's name gets it, beside others that get the same
// answer without.
func TestNSID(t *testing.T) {
	u := startUpstream(t)
	port := freePort(t)
	run(t, fmt.Sprintf(".:%s {\nbind 127.0.0.1\nnsid here\nlog\ncache\nforward . %s\n}\n", port, u.addr))
	if s := listenerOf(t, port); !s.On {
		t.Fatalf("%+v", s)
	}
	c := dns.Client{Timeout: 2 * time.Second}
	for i := range 60 {
		m := new(dns.Msg).SetQuestion("a.example.test.", dns.TypeA).SetEdns0(1232, false)
		named := i%3 == 2
		if named {
			o := m.IsEdns0()
			o.Option = append(o.Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID})
		}
		r, _, err := c.Exchange(m, "127.0.0.1:"+port)
		if err != nil || len(r.Answer) == 0 || r.IsEdns0() == nil {
			t.Fatalf("%v, %v", r, err)
		}
		var got []byte
		for _, o := range r.IsEdns0().Option {
			if n, ok := o.(*dns.EDNS0_NSID); ok {
				got = fmt.Append(got, n.Nsid)
			}
		}
		want := []byte(nil)
		if named {
			want = fmt.Appendf(nil, "%x", "here")
		}
		if !bytes.Equal(got, want) {
			t.Errorf("query %d: NSID %q, want %q", i, got, want)
		}
	}
	if s := listenerOf(t, port); s.Hits < 30 || s.Misses < 20 {
		t.Errorf("%d hits, %d misses of 40 and 20", s.Hits, s.Misses)
	}
}
