package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// memory is what one server needs for many cached answers.
type memory struct {
	name   string
	empty  float64 // MiB of the tree before
	full   float64 // and after
	entry  float64 // octets an entry, without the packet
	packet int     // octets of a response
	hits   float64 // per cent of a sample that is answered while the upstream stands still
	again  float64 // seconds from a new start to the first of these answers; 0: not kept
	p99    float64 // us, of the sample at the paced rate
	p999   float64
}

// probes is how many of the names are asked again, evenly taken.
const probes = 50_000

// memoryServers are those whose cache can be made large enough.
var memoryServers = []server{
	{name: ours, start: resolverd()},
	{name: "unbound", start: unbound},
	{name: "dnsdist", start: dnsdist},
	{name: "pdns-recursor", start: recursor},
	{name: "coredns", start: coredns},
}

// memory fills one server after the other, and never has two of them full.
func (b *bench) memory() ([]memory, error) {
	file, probe := filepath.Join(b.dir, "many"), filepath.Join(b.dir, "probe")
	if err := writeNames(file, b.entries, 1); err != nil {
		return nil, err
	}
	if err := writeNames(probe, b.entries, max(1, b.entries/probes)); err != nil {
		return nil, err
	}
	var l []memory
	for i, sv := range memoryServers {
		if !chosen(b.servers, sv.name) {
			continue
		}
		m, err := b.fillCache(sv, i, file, probe)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", sv.name, err)
		}
		if m != nil {
			fmt.Fprintf(os.Stderr, "%s %s: %.0f octets an entry, %.1f %% hits\n", memoryRow, m.name, m.entry, m.hits)
			l = append(l, *m)
		}
	}
	return l, nil
}

// writeNames writes queries for every step-th name.
func writeNames(file string, names, step int) error {
	var q bytes.Buffer
	for i := 0; i < names; i += step {
		fmt.Fprintf(&q, "m%07d.mem.bench.example A\n", i)
	}
	return os.WriteFile(file, q.Bytes(), 0o600)
}

func (b *bench) fillCache(sv server, number int, file, probe string) (*memory, error) {
	first := len(b.running)
	defer func() { b.stop(first) }()
	s := &subject{server: sv}
	ok, err := b.start(s, filepath.Join(b.dir, memoryRow, fmt.Sprint(number)), 50+number, b.entries)
	if err != nil || !ok {
		return nil, err
	}
	m := &memory{name: sv.name}
	// What a server allocates with its first queries is no entry's.
	other := filepath.Join(s.place.dir, "warm")
	if err := os.WriteFile(other, []byte("any.bench.example A\n"), 0o600); err != nil {
		return nil, err
	}
	if _, err := b.gen(load{port: s.place.port, file: other, window: 64, count: 5000, unique: 1}); err != nil {
		return nil, err
	}
	before, err := treeUsage(s.process.pid(), "")
	if err != nil {
		return nil, err
	}
	if _, err := b.gen(load{port: s.place.port, file: file, window: 64, count: b.entries}); err != nil {
		return nil, err
	}
	after, err := treeUsage(s.process.pid(), "")
	if err != nil {
		return nil, err
	}
	if m.packet, err = responseSize(net.JoinHostPort("127.0.0.1", fmt.Sprint(s.place.port)), "m0000001.mem.bench.example."); err != nil {
		return nil, err
	}

	// Only the cache can answer while the upstream stands still.
	if err := b.source.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return nil, err
	}
	out, err := b.gen(load{port: s.place.port, file: probe, rate: pacedRate, count: probes})
	if err := b.source.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	if sv.name == ours {
		if m.again, err = b.restart(s, first); err != nil {
			return nil, err
		}
	}
	m.hits = 100 * float64(out.Answered-out.wrong()) / float64(out.Sent)
	m.p99, m.p999 = out.P99, out.P999
	m.setSizes(before.rss, after.rss, b.entries)
	return m, nil
}

// restart ends a server and starts it again, and returns how many seconds later it gives
// the first answer that it had cached. The upstream stands still meanwhile.
func (b *bench) restart(s *subject, first int) (float64, error) {
	b.stop(first)
	if err := b.source.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return 0, err
	}
	defer func() { _ = b.source.cmd.Process.Signal(syscall.SIGCONT) }()
	args, err := s.start(s.place)
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	b.running = append(b.running, &process{cmd: cmd})
	q := new(dns.Msg).SetQuestion("m0000001.mem.bench.example.", dns.TypeA)
	c := dns.Client{Timeout: 20 * time.Millisecond}
	for time.Since(begun) < 30*time.Second {
		r, _, err := c.Exchange(q, net.JoinHostPort("127.0.0.1", fmt.Sprint(s.place.port)))
		if err == nil && r.Rcode == dns.RcodeSuccess && len(r.Answer) == 1 {
			return time.Since(begun).Seconds(), nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return 0, errors.New("nothing is cached after a restart")
}

// setSizes takes the resident octets before and after, and the entries that were filled
// in. Of those, only what is still there counts.
func (m *memory) setSizes(before, after int64, entries int) {
	m.empty, m.full = float64(before)/(1<<20), float64(after)/(1<<20)
	if kept := float64(entries) * m.hits / 100; kept > 0 {
		m.entry = float64(after-before)/kept - float64(m.packet)
	}
}

// responseSize asks once and returns the octets that came.
func responseSize(addr, name string) (int, error) {
	c, err := net.DialTimeout("udp", addr, time.Second)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	q, err := new(dns.Msg).SetQuestion(name, dns.TypeA).Pack()
	if err != nil {
		return 0, err
	}
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := c.Write(q); err != nil {
		return 0, err
	}
	return c.Read(make([]byte, 1500))
}

func memoryMarkdown(l []memory, entries int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### Memory for %s cached A answers\n\n", thousands(entries))
	b.WriteString("| server | octets an entry beyond the packet | packet | MiB empty | MiB full | still cached | p99 us | p99.9 us | after a restart, s |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|\n")
	for _, m := range l {
		again := "-"
		if m.again > 0 {
			again = fmt.Sprintf("%.2f", m.again)
		}
		fmt.Fprintf(&b, "| %s | %.0f | %d | %.0f | %.0f | %.1f %% | %.0f | %.0f | %s |\n", m.name, m.entry, m.packet, m.empty, m.full, m.hits, m.p99, m.p999, again)
	}
	fmt.Fprintf(&b, "\nStill cached is what was answered of %s names while the upstream stood still, asked at %s a second; latency is\n"+
		"of these answers. RSS is of the whole process tree. After a restart: from the new process's start to the\n"+
		"first answer that was cached before, from the snapshot on disk.\n", thousands(min(probes, entries)), thousands(pacedRate))
	return b.String()
}
