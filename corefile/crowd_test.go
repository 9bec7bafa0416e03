package corefile

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/internal/testnet"
)

func TestCrowd(t *testing.T) {
	c := &crowd{most: 2, heard: map[netip.AddrPort]time.Time{}}
	now := time.Now()
	for i, step := range []struct {
		after  time.Duration
		client uint16
		want   bool
	}{
		{0, 1, true}, {0, 2, true}, {0, 3, false}, {0, 1, true},
		{10 * time.Second, 2, true}, {0, 3, false},
		{6 * time.Second, 3, true}, // 1 was not heard for too long
		{0, 1, false}, {0, 2, true},
	} {
		now = now.Add(step.after)
		if got := c.stays(netip.AddrPortFrom(netip.IPv6Loopback(), step.client), now); got != step.want {
			t.Errorf("step %d: %t", i, got)
		}
		if len(c.heard) > c.most {
			t.Errorf("step %d: %d are known", i, len(c.heard))
		}
	}
}

// TestManyStreams has more connections than are kept: all are answered, and only so many stay.
func TestManyStreams(t *testing.T) {
	old := streams
	streams = &crowd{most: 5, heard: map[netip.AddrPort]time.Time{}}
	port := testnet.Port(t)
	// Registered first, so that it runs after the Runner has stopped.
	t.Cleanup(func() { streams = old })
	started(t, Config{Source: Source{File: write(t, fmt.Sprintf(".:%s {\nbind 127.0.0.1\nerratic {\ndrop 0\n}\nforward fails.test 127.0.0.1:1\n}\n", port))}})
	kept := 0
	for i := range 20 {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		co := &dns.Conn{Conn: c}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		name, qtype := "x.test.", dns.TypeA
		if i%2 == 1 {
			name, qtype = "fails.test.", dns.TypeAXFR // answered by the server itself
		}
		if err := co.WriteMsg(new(dns.Msg).SetQuestion(name, qtype)); err != nil {
			t.Fatal(err)
		}
		if _, err := co.ReadMsg(); err != nil {
			t.Fatalf("connection %d: no answer: %v", i, err)
		}
		if err := co.WriteMsg(new(dns.Msg).SetQuestion("x.test.", dns.TypeA)); err != nil {
			continue
		}
		if _, err := co.ReadMsg(); err == nil {
			kept++
		}
	}
	if kept != 5 {
		t.Errorf("%d connections are kept, want 5", kept)
	}
}
