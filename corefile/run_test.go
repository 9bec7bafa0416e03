package corefile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/internal/listenlock"
	"github.com/resolverd/resolverd/internal/resident"
	"github.com/resolverd/resolverd/internal/testnet"
)

func write(t *testing.T, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "Corefile")
	rewrite(t, p, text)
	return p
}

func rewrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// started runs a Corefile for the test; the word is what its template says.
func started(t *testing.T, c Config) *Runner {
	t.Helper()
	r, err := Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// says is a Corefile that answers every query with a TXT of the word.
func says(port, word string, more ...string) string {
	return fmt.Sprintf(".:%s {\nbind 127.0.0.1\n%s\ntemplate ANY ANY {\nanswer \"{{ .Name }} 0 IN TXT %s\"\n}\n}\n", port, strings.Join(more, "\n"), word)
}

func heard(t *testing.T, port string) string {
	t.Helper()
	m := new(dns.Msg).SetQuestion("x.test.", dns.TypeTXT)
	r, _, err := new(dns.Client).Exchange(m, "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Answer) != 1 {
		return dns.RcodeToString[r.Rcode]
	}
	return r.Answer[0].(*dns.TXT).Txt[0]
}

func TestDefault(t *testing.T) {
	port := testnet.Port(t)
	started(t, Config{Source: Source{Vars: map[string]string{
		"RESOLVERD_PORT": port, "RESOLVERD_HEALTH": "127.0.0.1:0", "RESOLVERD_READY": "127.0.0.1:0", "RESOLVERD_METRICS": "127.0.0.1:0",
	}}})
	for _, addr := range []string{"127.0.0.1:" + port, "[::1]:" + port} {
		if addr[0] == '[' && !bindable(netip.IPv6Loopback()) {
			continue
		}
		for _, network := range []string{"udp", "tcp"} {
			m := new(dns.Msg).SetQuestion("localhost.", dns.TypeA)
			r, _, err := (&dns.Client{Net: network}).Exchange(m, addr)
			if err != nil || len(r.Answer) != 1 || r.Answer[0].(*dns.A).A.String() != "127.0.0.1" {
				t.Errorf("%s %s: %v %v", network, addr, r, err)
			}
		}
	}
}

func TestReload(t *testing.T) {
	port := testnet.Port(t)
	file := write(t, says(port, "one"))
	r := started(t, Config{Source: Source{File: file}})
	rewrite(t, file, says(port, "two"))
	if err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := heard(t, port); got != "two" {
		t.Errorf("after the reload: %s", got)
	}
	for name, tc := range map[string]struct{ text, want string }{
		"syntax":       {".:53 {\n", "Corefile:1: Unexpected token '{', expecting '}'\nhint: a { above is not closed"},
		"directive":    {".:53 {\n\nwhoani\n}\n", "Corefile:3: unknown directive \"whoani\"\nhint: did you mean \"whoami\"?"},
		"argument":     {".:53 {\nwhoami x\n}\n", "Corefile:2: whoami: Wrong argument count or unexpected line ending after 'x'"},
		"later plugin": {says(port, "three", "health 127.0.0.1:0", "cache 5 {\nbytes x\n}"), "Corefile:5: cache: "},
	} {
		rewrite(t, file, tc.text)
		err := r.Reload(t.Context())
		var fs Faults
		if got := complaint(err, filepath.Dir(file)); !strings.HasPrefix(got, tc.want) || !errors.As(err, &fs) {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, tc.want)
		}
		if got := heard(t, port); got != "two" {
			t.Errorf("%s: the old Corefile does not serve on: %s", name, got)
		}
	}
	rewrite(t, file, says(port, "four"))
	if err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := heard(t, port); got != "four" {
		t.Errorf("after refusals: %s", got)
	}
	if _, err := Start(Config{}); !errors.Is(err, ErrRunning) {
		t.Errorf("a second Runner: %v", err)
	}
}

func TestReloadAfterStop(t *testing.T) {
	r, err := Start(Config{Source: Source{File: write(t, says(testnet.Port(t), "x"))}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := r.Reload(t.Context()); !errors.Is(err, ErrStopped) {
		t.Error(err)
	}
}

// TestNoQueryIsLost reloads five times, between two Corefiles, under load of UDP and of
// TCP with a connection a query.
func TestNoQueryIsLost(t *testing.T) {
	port := testnet.Port(t)
	file := write(t, says(port, "a"))
	r := started(t, Config{Source: Source{File: file}})
	var wg sync.WaitGroup
	stop := make(chan struct{})
	var mu sync.Mutex // guards the counts
	asked, lost := map[string]int{}, []string{}
	for _, network := range []string{"udp", "udp", "udp", "tcp", "tcp", "tcp", "tcp"} {
		wg.Go(func() {
			c := &dns.Client{Net: network, Timeout: 4 * time.Second}
			for {
				select {
				case <-stop:
					return
				default:
				}
				m := new(dns.Msg).SetQuestion("x.test.", dns.TypeTXT)
				resp, _, err := c.Exchange(m, "127.0.0.1:"+port)
				mu.Lock()
				asked[network]++
				if err != nil {
					lost = append(lost, network+": "+err.Error())
				} else if len(resp.Answer) != 1 {
					lost = append(lost, network+": "+resp.String())
				}
				mu.Unlock()
			}
		})
	}
	for i := range 5 {
		rewrite(t, file, says(port, string(rune('b'+i))))
		if err := r.Reload(t.Context()); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
	if len(lost) > 0 {
		t.Errorf("%d of %v queries lost, the first: %s", len(lost), asked, lost[0])
	}
	if asked["udp"] < 100 || asked["tcp"] < 100 {
		t.Errorf("only %v queries: the test asks nothing", asked)
	}
}

// TestConnectionsAreDrained is what adopt's look into caddy's lists is for.
func TestConnectionsAreDrained(t *testing.T) {
	port := testnet.Port(t)
	r := started(t, Config{Source: Source{File: write(t, says(port, "x"))}})
	c, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The old instance has accepted, and the query comes when it is being replaced.
	for _, s := range servers(r.instance) {
		if _, ok := (*s.server).(soft); !ok || s.listener == nil {
			t.Fatalf("caddy's list of servers has changed: %T", *s.server)
		}
	}
	done := make(chan error)
	go func() { done <- r.Reload(context.Background()) }()
	time.Sleep(settle / 2)
	conn := &dns.Conn{Conn: c}
	if err := conn.WriteMsg(new(dns.Msg).SetQuestion("x.test.", dns.TypeTXT)); err != nil {
		t.Fatal(err)
	}
	if m, err := conn.ReadMsg(); err != nil || len(m.Answer) != 1 {
		t.Errorf("a query on a connection that was accepted before the reload: %v %v", m, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestStockReload has the stock plugin notice the change, and looks at everything that
// our own reload would have done.
func TestStockReload(t *testing.T) {
	port, other := testnet.Port(t), testnet.Port(t)
	file := write(t, says(port, "one", "reload 2s 0s"))
	var out bytes.Buffer
	var mu sync.Mutex // guards out
	log := slog.New(slog.NewTextHandler(lockedWriter{&mu, &out}, nil))
	r := started(t, Config{Source: Source{File: file}, LockDir: t.TempDir(), Command: "test", Log: log})
	wait := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				mu.Lock()
				defer mu.Unlock()
				t.Fatalf("not within 10 s: %s\n%s", what, out.String())
			}
		}
	}
	first := resident.Block(0)
	rewrite(t, file, says(port, "two", "reload 2s 0s")+"b.test:"+other+" {\nbind 127.0.0.1\nwhoami\n}\n")
	wait("the new answer", func() bool { return heard(t, port) == "two" })
	wait("the new Corefile", func() bool { return len(r.Loaded().Blocks) == 2 })
	r.mu.Lock() // the swap is over
	held := r.locks
	r.mu.Unlock()
	if resident.Block(0) == first || resident.Block(1) == "" {
		t.Errorf("the residents were not told of the new blocks: %q then %q %q", first, resident.Block(0), resident.Block(1))
	}
	second, err := listenlock.NewSet(r.config.LockDir, "second")
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := second.Add(mustAddrs("127.0.0.1:" + other)); err == nil || held == nil {
		t.Error("the new listener was not locked")
	}

	rewrite(t, file, says(port, "three", "reload 2s 0s", "fowrard"))
	wait("the refusal in the log", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Contains(out.String(), "unknown directive")
	})
	rewrite(t, file, says(port, "four", "reload 2s 0s"))
	wait("the last answer", func() bool { return heard(t, port) == "four" })
	wait("the lock given back", func() bool { return second.Add(mustAddrs("127.0.0.1:"+other)) == nil })
	// And ours goes on from there.
	rewrite(t, file, says(port, "five"))
	if err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := heard(t, port); got != "five" {
		t.Errorf("after our own reload: %s", got)
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func mustAddrs(s ...string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range s {
		out = append(out, netip.MustParseAddrPort(a))
	}
	return out
}

func TestResidentsThroughReloads(t *testing.T) {
	port := testnet.Port(t)
	file := write(t, says(port, "one", "cache"))
	r := started(t, Config{Source: Source{File: file}})
	first := resident.Block(0)
	keys := func() (out []string) {
		resident.Each("cache", func(key string, _ io.Closer) { out = append(out, key) })
		return out
	}
	before := keys()
	if len(before) != 1 {
		t.Fatalf("residents of kind cache: %q", before)
	}
	step := func(text string) {
		t.Helper()
		rewrite(t, file, text)
		if err := r.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	step(says(port, "one", "cache", "log", "errors"))
	if resident.Block(0) != first || len(keys()) != 1 || keys()[0] != before[0] {
		t.Errorf("an edit of log took the cache away: %q, then %q", before, keys())
	}
	rewrite(t, file, says(port, "two", "cache", "whoami x"))
	if err := r.Reload(t.Context()); err == nil {
		t.Fatal("a bad Corefile was taken")
	}
	if len(keys()) != 1 || keys()[0] != before[0] {
		t.Errorf("a refused Corefile left residents: %q", keys())
	}
	step(says(port, "two", "cache"))
	if got := keys(); len(got) != 1 || got[0] == before[0] {
		t.Errorf("other answers, and the old cache: %q", got)
	}
}

func TestSecondCopy(t *testing.T) {
	dir, port := t.TempDir(), testnet.Port(t)
	first, err := listenlock.NewSet(dir, "resolverd run")
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Add(mustAddrs("127.0.0.1:" + port)); err != nil {
		t.Fatal(err)
	}
	file := write(t, says(port, "x"))
	var held *listenlock.Held
	if _, err := Start(Config{Source: Source{File: file}, LockDir: dir, Command: "resolverd run"}); !errors.As(err, &held) {
		t.Errorf("a second copy: %v", err)
	}
	first.Close()
	started(t, Config{Source: Source{File: file}, LockDir: dir, Command: "resolverd run"})
	if got := heard(t, port); got != "x" {
		t.Error(got)
	}
}

// TestPortsOfOthers: another program has the port, and says so at start as at reload.
func TestPortsOfOthers(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	_, taken, _ := net.SplitHostPort(busy.Addr().String())
	me := fmt.Sprintf("corefile.test (pid %d)", os.Getpid())
	file := write(t, says(taken, "x"))
	want := fmt.Sprintf("Corefile:2: cannot listen on tcp 127.0.0.1:%s: in use by %s\nhint: `ss -lnp` as root shows who listens; stop it, or choose another address or port", taken, me)
	_, err = Start(Config{Source: Source{File: file}})
	if got := complaint(err, filepath.Dir(file)); got != want {
		t.Errorf("start:\ngot  %s\nwant %s", got, want)
	}

	port := testnet.Port(t)
	rewrite(t, file, says(port, "one"))
	r := started(t, Config{Source: Source{File: file}})
	rewrite(t, file, says(port, "two", "health 127.0.0.1:"+taken))
	want = fmt.Sprintf("Corefile:3: health: cannot listen on tcp 127.0.0.1:%s: in use by %s\n", taken, me)
	if got := complaint(r.Reload(t.Context()), filepath.Dir(file)); !strings.HasPrefix(got, want) {
		t.Errorf("reload:\ngot  %s\nwant %s", got, want)
	}
	if got := heard(t, port); got != "one" {
		t.Error(got)
	}
}

// TestSocketsOfARefusedCorefile: what caddy opened before it failed must not take
// queries with it. The failure is one that prepare did not foresee.
func TestSocketsOfARefusedCorefile(t *testing.T) {
	port, extra := testnet.Port(t), testnet.Port(t)
	file := write(t, says(port, "one"))
	r := started(t, Config{Source: Source{File: file}})
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	_, taken, _ := net.SplitHostPort(busy.Addr().String())
	rewrite(t, file, says(port, "two")+strings.ReplaceAll(says(extra, "two"), ".:", "a.:")+strings.ReplaceAll(says(taken, "two"), ".:", "b.:"))
	l, err := Load(Source{File: file})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.instance.Restart(r.offer(l)); err == nil {
		t.Fatal("started on a port that is taken")
	}
	for deadline := time.Now().Add(5 * time.Second); listenlock.Probe(t.Context(), "udp", netip.MustParseAddrPort("127.0.0.1:"+extra)) != nil ||
		listenlock.Probe(t.Context(), "tcp", netip.MustParseAddrPort("127.0.0.1:"+extra)) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the refused Corefile's sockets are still there")
		}
	}
	for range 50 {
		if got := heard(t, port); got != "one" {
			t.Fatal(got)
		}
	}
	rewrite(t, file, says(port, "three"))
	if err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := heard(t, port); got != "three" {
		t.Error(got)
	}
}

func TestListenersOfWildcardToSingle(t *testing.T) {
	port := testnet.Port(t)
	file := write(t, strings.ReplaceAll(says(port, "all"), "bind 127.0.0.1\n", ""))
	r := started(t, Config{Source: Source{File: file}, LockDir: t.TempDir(), Command: "x"})
	if got := fmt.Sprint(r.Listeners()); got != "[[::]:"+port+"]" {
		t.Errorf("listeners %s", got)
	}
	provided, ok := resident.Provided[func() []netip.AddrPort](ListenersName)
	if !ok || fmt.Sprint(provided()) != "[[::]:"+port+"]" {
		t.Error("the plugins are not told of the listeners")
	}
	rewrite(t, file, says(port, "one"))
	if err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(r.Listeners()); got != "[127.0.0.1:"+port+"]" {
		t.Errorf("listeners %s", got)
	}
	if got := heard(t, port); got != "one" {
		t.Error(got)
	}
}

// TestLameduck: while health sleeps, queries are answered and ready says no.
func TestLameduck(t *testing.T) {
	port, health, ready := testnet.Port(t), testnet.Port(t), testnet.Port(t)
	file := write(t, says(port, "x", "health 127.0.0.1:"+health+" {\nlameduck 500ms\n}", "ready 127.0.0.1:"+ready))
	r, err := Start(Config{Source: Source{File: file}})
	if err != nil {
		t.Fatal(err)
	}
	get := func(url string) int {
		resp, err := http.Get(url)
		if err != nil {
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if get("http://127.0.0.1:"+health+"/health") != 200 || get("http://127.0.0.1:"+ready+"/ready") != 200 {
		t.Error("not healthy, or not ready")
	}
	begin := time.Now()
	done := make(chan error)
	go func() { done <- r.Stop(context.Background()) }()
	time.Sleep(200 * time.Millisecond)
	if got := heard(t, port); got != "x" {
		t.Errorf("in lameduck: %s", got)
	}
	if get("http://127.0.0.1:"+ready+"/ready") == 200 {
		t.Error("ready while it stops")
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if d := time.Since(begin); d < 500*time.Millisecond {
		t.Errorf("stopped after %s", d)
	}
}

// TestOptionsAreDocumented holds the list of options against the plugins' pages.
func TestOptionsAreDocumented(t *testing.T) {
	for name, list := range options {
		page, err := os.ReadFile(filepath.Join("..", "plugin", name, "README.md"))
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range list {
			if !strings.Contains(string(page), "\n    "+o) {
				t.Errorf("%s has no option %s in its README", name, o)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"good":          {".:53 {\nbind 127.0.0.1\nerrors\nforward . 192.0.2.1\ncache\n}\n", ""},
		"argument":      {".:53 {\nerrors\ncache ten\n}\n# no more\n", ""}, // a zone
		"option":        {".:53 {\nerrors {\nbogus\n}\n}\n", "Corefile:3: errors: "},
		"no place":      {".:53 {\nbind 1.2.3\n}\n", "Corefile:2: bind: not a valid IP address or interface name: \"1.2.3\""},
		"no place, two": {"a {\nbind 127.0.0.1\n}\nb {\nbind 1.2.3\n}\n", "Corefile:2: bind: not a valid IP address or interface name: \"1.2.3\"\nhint: bind stands also at Corefile:5: it may be one of them"},
		"bad zone":      {".:53 {\nwhoami\n}\na..b {\nwhoami\n}\n", "Corefile:4: zone is not a valid domain name: a..b"},
		"bad port":      {"a {\nbind 127.0.0.1\n}\n.:70000 {\nbind 127.0.0.1\n}\n", "Corefile:4: \"70000\" is no port; ports are 1 to 65535"},
		"not set":       {". {\nforward . {$NEVER_SET}\n}\n", "Corefile:2: forward: invalid address: \"\"\nhint: {$NEVER_SET} is read as nothing: NEVER_SET is not set"},
		"mistyped":      {". {\nforward . 192.0.2.1 {\npolciy random\n}\n}\n", "Corefile:3: forward: unknown property 'polciy'\nhint: did you mean \"policy\"?"},
		"mistyped too":  {". {\nregistry {\ntll 5s\n}\n}\n", "Corefile:3: registry: unknown option \"tll\"\nhint: did you mean \"ttl\"?"},
		"no argument":   {".:53 {\nfile\n}\n", "Corefile:2: file: "},
	} {
		t.Run(name, func(t *testing.T) {
			file := write(t, tc.text)
			_, err := Check(Source{File: file})
			got := complaint(err, filepath.Dir(file))
			if tc.want == "" && got != "" || !strings.HasPrefix(got, tc.want) {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
	if _, err := Check(Source{}); err != nil {
		t.Errorf("the default: %v", err)
	}
}
