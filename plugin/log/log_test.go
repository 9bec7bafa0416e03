package log_test

import (
	"bytes"
	"context"
	"fmt"
	stdlog "log"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/resolverd/resolverd/corefile"
	"github.com/resolverd/resolverd/internal/testnet"
	"github.com/resolverd/resolverd/plugin/fastpath"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// journal holds what the log package wrote.
type journal struct {
	mu    sync.Mutex
	bytes bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.bytes.Write(p)
}

// lines returns the lines that contain mark, without the time that they begin with.
func (j *journal) lines(t *testing.T, mark string) []string {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []string
	for line := range strings.Lines(j.bytes.String()) {
		if !strings.Contains(line, mark) {
			continue
		}
		at, rest := line[:min(20, len(line))], strings.TrimSuffix(line[min(20, len(line)):], "\n")
		if _, err := time.Parse("2006/01/02 15:04:05 ", at); err != nil {
			t.Errorf("line %q: %v", line, err)
		}
		if strings.HasPrefix(mark, "MARK") && !strings.HasPrefix(rest, "[INFO] ") {
			t.Errorf("line %q is no information", line)
		}
		out = append(out, rest)
	}
	return out
}

// wait returns the lines with mark when there are n of them, or what there is in the end.
func (j *journal) wait(t *testing.T, mark string, n int) []string {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 400 {
		if l := j.lines(t, mark); len(l) >= n {
			break
		}
		<-tick.C
	}
	return j.lines(t, mark)
}

// listen takes what the log package writes until the test ends.
func listen(t *testing.T) *journal {
	t.Helper()
	j := &journal{}
	flags, out := stdlog.Flags(), stdlog.Writer()
	stdlog.SetFlags(stdlog.LstdFlags)
	stdlog.SetOutput(j)
	t.Cleanup(func() { stdlog.SetFlags(flags); stdlog.SetOutput(out) })
	return j
}

// upstream answers A, and denies names that begin with nx.
func upstream(t *testing.T) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		m.RecursionAvailable = true
		soa, _ := dns.NewRR("example.test. 300 IN SOA ns.example.test. host.example.test. 1 2 3 4 300")
		q := r.Question[0]
		switch {
		case strings.HasPrefix(strings.ToLower(q.Name), "nx"):
			m.Rcode = dns.RcodeNameError
			m.Ns = []dns.RR{soa}
		case strings.HasPrefix(strings.ToLower(q.Name), "fail"):
			m.Rcode = dns.RcodeServerFailure
		case q.Qtype == dns.TypeA:
			rr, _ := dns.NewRR(q.Name + " 300 IN A 192.0.2.1")
			m.Answer = []dns.RR{rr}
		case q.Qtype == dns.TypeTXT:
			for i := range 12 {
				rr, _ := dns.NewRR(fmt.Sprintf("%s 300 IN TXT %d%s", q.Name, i, strings.Repeat("x", 80)))
				m.Answer = append(m.Answer, rr)
			}
		default:
			m.Ns = []dns.RR{soa}
		}
		if o := r.IsEdns0(); o != nil {
			m.SetEdns0(1232, o.Do())
		}
		m.Truncate(1232)
		_ = w.WriteMsg(m)
	})}
	go s.ActivateAndServe()
	t.Cleanup(func() { s.Shutdown() })
	return pc.LocalAddr().String()
}

func run(t *testing.T, text string) (*corefile.Runner, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "Corefile")
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
	return r, file
}

// counts returns those of the listener on the port.
func counts(port string) fastpath.ListenerStatus {
	for _, l := range fastpath.Current().Listeners {
		if strings.HasSuffix(l.Listener, ":"+port) {
			return l
		}
	}
	return fastpath.ListenerStatus{}
}

// repeated returns how many queries the listener answered at once without the chain, and
// relayed how many it took to the upstream.
func repeated(port string) int { return int(counts(port).Hits) }
func relayed(port string) int  { return int(counts(port).Relayed) }

// ready waits until the listener on the port has its fast path.
func ready(t *testing.T, port string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 400 {
		for _, l := range fastpath.Current().Listeners {
			if strings.HasSuffix(l.Listener, ":"+port) && l.On {
				return
			}
		}
		<-tick.C
	}
	t.Fatalf("no fast path: %+v", fastpath.Current())
}

// client asks any listener from one socket.
type client struct {
	t    *testing.T
	conn *net.UDPConn
}

func newClient(t *testing.T, from string) client {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return client{t, conn}
}

// ask sends the query to the port and waits for the reply.
func (c client) ask(port string, m *dns.Msg) *dns.Msg {
	c.t.Helper()
	p, err := m.Pack()
	if err != nil {
		c.t.Fatal(err)
	}
	to, err := net.ResolveUDPAddr("udp", "127.0.0.1:"+port)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.conn.WriteToUDP(p, to); err != nil {
		c.t.Fatal(err)
	}
	buf := make([]byte, 4096)
	c.conn.SetReadDeadline(time.Now().Add(3 * time.Second))
	n, err := c.conn.Read(buf)
	if err != nil {
		c.t.Fatal(err)
	}
	reply := new(dns.Msg)
	if err := reply.Unpack(buf[:n]); err != nil || reply.Id != m.Id {
		c.t.Fatalf("%v: %v", reply, err)
	}
	return reply
}

var took = regexp.MustCompile(`took (\d+(?:\.\d+)?)s`)

const everything = `{remote} {port} {local} {>id} {>opcode} {type} {class} {name} {proto} {size} {>do} {>bufsize} ` +
	`{rcode} {>rflags} {rsize} {/log/type} {/log/class} {unknown} } took {duration}`

// TestDifferential asks the same of a listener with and of one without the fast path, and
// compares the lines: of what is learnt, and of what goes to the upstream by a course.
func TestDifferential(t *testing.T) {
	t.Run("learnt", func(t *testing.T) { differ(t, "metadata\nbufsize 1400", false) })
	t.Run("courses", func(t *testing.T) { differ(t, "errors", true) })
}

func differ(t *testing.T, also string, courses bool) {
	j := listen(t)
	up := upstream(t)
	fast, slow := testnet.Port(t), testnet.Port(t)
	text := ""
	for _, l := range []struct{ mark, port, off string }{{"fast", fast, ""}, {"slow", slow, "fastpath off"}} {
		text += fmt.Sprintf(`.:%s {
bind 127.0.0.1
%s
%s
log errors.test "MARK-%s errors %s" {
	class error
}
log denied.test unknown.test "MARK-%s denied %s" {
	class denial error
}
log common.test "MARK-%s {common} took 0s"
log . "MARK-%s %s"
cache
forward . %s
}
`, l.port, also, l.off, l.mark, everything, l.mark, everything, l.mark, l.mark, everything, up)
	}
	run(t, text)
	ready(t, fast)
	c := []client{newClient(t, "127.0.0.1"), newClient(t, "127.0.0.7")}
	id := uint16(0)
	for _, name := range []string{
		"a.example.test.", "nx.example.test.", "fail.example.test.", "a.errors.test.", "fail.errors.test.",
		"a.denied.test.", "nx.denied.test.", "fail.unknown.test.", "a.common.test.", "\\003\\\".example.test.", ".",
	} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeTXT, dns.TypeMX, 65300} {
			for _, size := range []uint16{0, 512, 1232, 4096} {
				for round := range 4 {
					m := new(dns.Msg).SetQuestion(name, qtype)
					m.CheckingDisabled = size == 512
					if size > 0 {
						m.SetEdns0(size, size == 1232)
					}
					if round == 3 {
						m.Question[0].Name = strings.ToUpper(name)
					}
					for i := range c {
						id++
						m.Id = id
						c[i].ask(fast, m)
						c[i].ask(slow, m)
					}
				}
			}
		}
	}
	if n := repeated(fast); n < int(id)/4 {
		t.Errorf("%d of %d queries were repeated", n, id)
	}
	if n := relayed(fast); (n > 0) != courses {
		t.Errorf("%d queries took a course", n)
	}
	want := j.lines(t, "MARK-slow")
	got := j.wait(t, "MARK-fast", len(want))
	for range 100 { // the plugin writes its line when the client has its reply already
		if len(want) == len(got) {
			break
		}
		<-time.After(20 * time.Millisecond)
		want, got = j.lines(t, "MARK-slow"), j.lines(t, "MARK-fast")
	}
	if len(want) < int(id)/2 {
		t.Fatalf("%d lines for %d queries", len(want), id)
	}
	clean := func(lines []string) []string {
		for i, l := range lines {
			if !strings.Contains(l, "{duration}") && !took.MatchString(l) {
				t.Errorf("no duration: %s", l)
			}
			l = strings.Replace(strings.Replace(l, "MARK-fast", "MARK", 1), "MARK-slow", "MARK", 1)
			l = regexp.MustCompile(`\d+(\.\d+)?s( took 0s)?$`).ReplaceAllString(l, "Ns")
			lines[i] = l
		}
		slices.Sort(lines)
		return lines
	}
	if d := cmp.Diff(clean(want), clean(got)); d != "" {
		t.Errorf("without (-) and with the fast path (+):\n%s", d)
	}
}

// TestDuration: what a line of the fast path says is a time, and a short one.
func TestDuration(t *testing.T) {
	j := listen(t)
	port := testnet.Port(t)
	run(t, fmt.Sprintf(".:%s {\nbind 127.0.0.1\nlog . \"MARK took {duration}\"\ncache\nforward . %s\n}\n", port, upstream(t)))
	ready(t, port)
	c := newClient(t, "127.0.0.1")
	for range 50 {
		c.ask(port, new(dns.Msg).SetQuestion("a.test.", dns.TypeA))
	}
	lines := j.wait(t, "MARK", 50)
	if len(lines) != 50 {
		t.Fatalf("%d lines", len(lines))
	}
	for _, l := range lines {
		d, err := time.ParseDuration(strings.TrimPrefix(l, "[INFO] MARK took "))
		if err != nil || d <= 0 || d > 5*time.Second {
			t.Errorf("%s: %v", l, err)
		}
	}
}

// TestSample: about one in so many of the queries that the stanza selects has a line,
// whoever answers.
func TestSample(t *testing.T) {
	for _, off := range []string{"", "fastpath off"} {
		t.Run(off, func(t *testing.T) { sample(t, off) })
	}
}

func sample(t *testing.T, off string) {
	j := listen(t)
	port := testnet.Port(t)
	run(t, fmt.Sprintf(".:%s {\nbind 127.0.0.1\n%s\nlog . \"MARK-%s {name}\" {\nsample 10\n}\ncache\nforward . %s\n}\n", port, off, port, upstream(t)))
	if off == "" {
		ready(t, port)
	}
	c := newClient(t, "127.0.0.1")
	for range 2000 {
		c.ask(port, new(dns.Msg).SetQuestion("a.test.", dns.TypeA))
	}
	// 200 are expected with a deviation of 13.
	n := len(j.wait(t, "MARK-"+port, 120))
	<-time.After(30 * time.Millisecond) // lines more than those
	if n = max(n, len(j.lines(t, "MARK-"+port))); n < 120 || n > 280 {
		t.Errorf("%d lines of 2000 queries", n)
	}
}

// TestReload: each query has one line, as the Corefile writes it that answered, and none
// is lost on the way to a reload or to the end.
func TestReload(t *testing.T) {
	j := listen(t)
	up, port := upstream(t), testnet.Port(t)
	text := func(n int) string {
		return fmt.Sprintf(".:%s {\nbind 127.0.0.1\nlog . \"MARK %d {>id}\"\ncache\nforward . %s\n}\n", port, n, up)
	}
	r, file := run(t, text(0))
	c := newClient(t, "127.0.0.1")
	const each, loads = 200, 4
	for n := range loads {
		ready(t, port)
		for i := range each {
			m := new(dns.Msg).SetQuestion("a.test.", dns.TypeA)
			m.Id = uint16(i)
			c.ask(port, m)
		}
		if repeated(port) < each/2 {
			t.Errorf("load %d: %d were repeated", n, repeated(port))
		}
		if n == loads-1 {
			if err := r.Stop(context.Background()); err != nil {
				t.Fatal(err)
			}
		} else {
			if err := os.WriteFile(file, []byte(text(n+1)), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := r.Reload(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		// At once: nothing may come later.
		if got := len(j.lines(t, fmt.Sprintf("MARK %d ", n))); got != each {
			t.Errorf("load %d: %d lines of %d", n, got, each)
		}
	}
}

// counted returns what the metric says of what was dropped.
func counted(t *testing.T) int {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "resolverd_fastpath_log_dropped_total" {
			return int(f.GetMetric()[0].GetCounter().GetValue())
		}
	}
	return 0
}

// blocked is an output that takes nothing for a while.
type blocked struct {
	journal
	gate chan struct{}
}

func (b *blocked) Write(p []byte) (int, error) {
	<-b.gate
	return b.journal.Write(p)
}

// TestNobodyReads: answers leave though no line can be written, and what has no room is
// counted and told.
func TestNobodyReads(t *testing.T) {
	j := listen(t)
	port := testnet.Port(t)
	run(t, fmt.Sprintf(".:%s {\nbind 127.0.0.1\nlog . \"MARK {>id}\" {\nclass success\n}\ncache\nforward . %s\n}\n", port, upstream(t)))
	ready(t, port)
	c := newClient(t, "127.0.0.1")
	q := new(dns.Msg).SetQuestion("a.test.", dns.TypeA)
	before := 0
	for ; repeated(port) < 2; before++ { // one may be of the cache, the next is learnt
		c.ask(port, q)
	}
	if n := len(j.wait(t, "MARK", before)); n != before {
		t.Fatalf("%d lines of %d", n, before)
	}
	b := &blocked{gate: make(chan struct{})}
	stdlog.SetOutput(b)
	const more = 20_000 // than the ring and what the reader has in hand
	for range more {
		c.ask(port, q)
	}
	close(b.gate)
	written, dropped := 0, 0
	for _, l := range b.wait(t, "dropped=", 1) {
		var n int
		if _, err := fmt.Sscanf(l[strings.Index(l, "dropped="):], "dropped=%d", &n); err != nil {
			t.Error(err)
		}
		dropped += n
	}
	written = len(b.wait(t, "MARK", more-dropped))
	if dropped == 0 || written+dropped != more {
		t.Errorf("%d lines and %d dropped of %d", written, dropped, more)
	}
	if n := counted(t); n < dropped {
		t.Errorf("%d dropped by the metric, want %d at least", n, dropped)
	}
}
