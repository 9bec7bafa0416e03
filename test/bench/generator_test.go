package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// build compiles the C programs and returns their directory.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := compile(context.Background(), dir); err != nil {
		t.Fatalf("%v\nhint: test/install installs gcc", err)
	}
	return dir
}

func run1(t *testing.T, dir string, l load, queries string) reply {
	t.Helper()
	l.file = filepath.Join(dir, "queries")
	if err := os.WriteFile(l.file, []byte(queries), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "gen"), l.args()...).CombinedOutput()
	if err != nil {
		t.Fatalf("gen: %v\n%s", err, out)
	}
	r, err := parseGen(out)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The generator and the floor understand each other, and the floor what others send.
func TestGenAgainstFloor(t *testing.T) {
	dir := build(t)
	c, err := net.ListenPacket("udp", "127.0.0.1:0") // a port that is free
	if err != nil {
		t.Fatal(err)
	}
	port := c.LocalAddr().(*net.UDPAddr).Port
	c.Close()
	p := exec.Command(filepath.Join(dir, "floor"), "127.0.0.1", fmt.Sprint(port))
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Process.Kill(); _ = p.Wait() })

	m := new(dns.Msg)
	m.SetQuestion("a.example.", dns.TypeA)
	m.SetEdns0(1232, true)
	var got *dns.Msg
	// Until its socket is bound the kernel refuses at once: wait between the tries.
	up := time.NewTicker(50 * time.Millisecond)
	defer up.Stop()
	for range 200 {
		client := dns.Client{Timeout: 100 * time.Millisecond}
		if got, _, err = client.Exchange(m, fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			break
		}
		<-up.C
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Answer) != 1 || got.Answer[0].String() != "a.example.\t3600\tIN\tA\t192.0.2.1" || len(got.Extra) != 0 {
		t.Errorf("floor answers %v", got)
	}

	queries := "a.example A\nlonger.name.example. SRV\n"
	for name, l := range map[string]load{
		"window":       {port: port, window: 64, count: 3000, seconds: 10},
		"paced, EDNS":  {port: port, rate: 10_000, count: 1000, seconds: 10, edns: true},
		"unique names": {port: port, window: 16, count: 1000, seconds: 10, unique: 9},
	} {
		r := run1(t, dir, l, queries)
		if r.Sent != int64(l.count) || r.Answered < r.Sent*9/10 || r.RCodes["0"] != r.Answered || r.wrong() != 0 {
			t.Errorf("%s: %+v", name, r)
		}
		if r.P50 <= 0 || r.P50 > r.P99 || r.P99 > r.P999 {
			t.Errorf("%s: latencies %+v", name, r)
		}
		if l.rate > 0 && r.Seconds < 0.09 {
			t.Errorf("%s: %d queries took %v s", name, r.Sent, r.Seconds)
		}
	}
}

// What does not answer the query does not count, and what counts is told apart.
func TestGenCounts(t *testing.T) {
	dir := build(t)
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { c.Close(); <-done })
	go func() {
		defer close(done)
		b := make([]byte, 1500)
		for n := 0; ; n++ {
			size, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			r := append([]byte(nil), b[:size]...)
			r[2] |= 0x80
			switch n % 6 {
			case 0: // lost
				continue
			case 1: // another id
				r[0]++
			case 2: // another name
				r[14] ^= 1
			case 3: // SERVFAIL
				r[3] = 2
			case 4: // truncated
				r[2] |= 2
			case 5: // NODATA
			}
			if _, err := c.WriteTo(r, from); err != nil {
				return
			}
		}
	}()
	l := load{port: c.LocalAddr().(*net.UDPAddr).Port, window: 8, count: 60, seconds: 10, timeout: 200 * time.Millisecond}
	r := run1(t, dir, l, "abc.example A\n")
	if r.Sent != 60 || r.Answered != 30 || r.Lost != 30 || r.RCodes["2"] != 10 || r.Truncated != 10 || r.Empty != 10 {
		t.Errorf("%+v", r)
	}
}
