package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/resolverd/resolverd/agent"
	"github.com/resolverd/resolverd/registry"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// call makes one request of the API, on a connection of its own.
func (r *running) call(t testing.TB, method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, fmt.Sprint("http://", r.api, path), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func (r *running) put(t testing.TB, path, body string) {
	t.Helper()
	if code, said := r.call(t, http.MethodPut, path, body); code != http.StatusOK {
		t.Fatalf("%s: %d %s", path, code, said)
	}
}

// following returns a view that an answerer keeps, once it is connected and up to date.
func following(t testing.TB, cfg agent.Config) *registry.View {
	t.Helper()
	v := follow(t, cfg)
	await(t, v, "the node, alive", func(s *registry.Snapshot) bool {
		n := s.Node(cfg.Node)
		return n != nil && n.Alive
	})
	return v
}

// TestWhatIsRegisteredIsAnswered registers through the API and looks at once: a writer
// has its answer when the answerer shows the write.
func TestWhatIsRegisteredIsAnswered(t *testing.T) {
	cfg := config(t.TempDir())
	a := start(t, cfg)
	v := following(t, cfg)
	for i := range 50 {
		a.put(t, "/v1/agent/service/register", fmt.Sprintf(`{"Name": "web", "ID": "web-%d", "Port": %d}`, i, 8000+i))
		if s := v.Load().Service("web"); s == nil || len(s.Instances) != i+1 {
			t.Fatalf("after registration %d the answerer has %+v", i+1, s)
		}
	}
	a.put(t, "/v1/agent/service/deregister/web-7", "")
	if n := len(v.Load().Service("web").Instances); n != 49 {
		t.Fatalf("%d instances after a deregistration", n)
	}
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	a = start(t, cfg)
	if code, body := a.call(t, http.MethodGet, "/v1/catalog/service/web", ""); code != http.StatusOK || strings.Count(body, `"ServiceID"`) != 49 {
		t.Errorf("after a restart: %d %s", code, body)
	}
	var history []registry.Event
	_, body := a.call(t, http.MethodGet, "/v1/resolverd/history?limit=500", "")
	if err := json.Unmarshal([]byte(body), &history); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	seen := map[string]int{}
	for _, e := range history {
		seen[e.Subject+" "+e.Action]++
	}
	for what, n := range map[string]int{"instance register": 50, "instance deregister": 1, "node start": 2, "node stop": 1} {
		if seen[what] != n {
			t.Errorf("%d times %q in the history, want %d: %v", seen[what], what, n, seen)
		}
	}
}

// TestCheckAndFile brings a service by a file, with a check against a real listener that
// then goes away, and takes the file out.
func TestCheckAndFile(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := config(t.TempDir())
	cfg.ServicesDir = t.TempDir()
	cfg.CheckInterval, cfg.CheckTimeout = 50*time.Millisecond, 40*time.Millisecond
	port := l.Addr().(*net.TCPAddr).Port
	file := filepath.Join(cfg.ServicesDir, "db.yaml")
	write := func(s string) {
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(fmt.Sprintf("service:\n  name: db\n  port: %d\n  checks:\n    - tcp: 127.0.0.1:%d\n", port, port))
	start(t, cfg)
	v := following(t, cfg)
	state := func(want registry.State) {
		t.Helper()
		await(t, v, "db "+want.String(), func(s *registry.Snapshot) bool {
			svc := s.Service("db")
			return svc != nil && svc.Instances[0].State == want && svc.Instances[0].Owner == registry.OwnerFile
		})
	}
	state(registry.Up)
	l.Close()
	state(registry.Down)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	await(t, v, "db gone", func(s *registry.Snapshot) bool { return s.Service("db") == nil })
}

// TestStopEndsWhoWaits stops an agent in the middle of a blocking query.
func TestStopEndsWhoWaits(t *testing.T) {
	cfg := config(t.TempDir())
	a := start(t, cfg)
	_, _ = a.call(t, http.MethodGet, "/v1/catalog/services", "")
	var wg sync.WaitGroup
	asked := make(chan struct{})
	wg.Go(func() {
		c, err := net.Dial("tcp", a.api.String())
		if err != nil {
			t.Error(err)
			close(asked)
			return
		}
		defer c.Close()
		fmt.Fprintf(c, "GET /v1/health/service/none?index=1000000&wait=5m HTTP/1.1\r\nHost: localhost\r\n\r\n")
		close(asked)
		io.Copy(io.Discard, c)
	})
	<-asked
	began := time.Now()
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the stop took %v", took)
	}
	wg.Wait()
}

// TestTokenOffLoopback needs a token where others may call.
func TestTokenOffLoopback(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.API, cfg.APIToken = netip.MustParseAddrPort("0.0.0.0:0"), "secret"
	a := start(t, cfg)
	a.api = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), a.api.Port())
	if code, _ := a.call(t, http.MethodGet, "/v1/catalog/services", ""); code == http.StatusOK {
		t.Errorf("without a token: %d", code)
	}
	req, _ := http.NewRequestWithContext(context.Background(), http.MethodGet, fmt.Sprint("http://", a.api, "/v1/catalog/services"), bytes.NewReader(nil))
	req.Header.Set("X-Consul-Token", "secret")
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("with the token: %d", res.StatusCode)
	}
}

// TestMetricsAreDocumented looks for each metric of a running agent in the documentation.
func TestMetricsAreDocumented(t *testing.T) {
	var docs strings.Builder
	for _, pattern := range []string{"../docs/*.md", "../README.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			docs.Write(b)
		}
	}
	cfg := config(t.TempDir())
	cfg.ServicesDir = t.TempDir()
	a := start(t, cfg)
	v := following(t, cfg)
	a.put(t, "/v1/agent/service/register", `{"Name": "web", "Port": 80, "Check": {"TTL": "10s", "Status": "passing"}}`)
	await(t, v, "web", func(s *registry.Snapshot) bool { return s.Service("web") != nil })
	_, body := a.call(t, http.MethodGet, "/v1/resolverd/metrics", "")
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v, %v", problems, err)
	}
	n := 0
	for line := range strings.Lines(body) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "#" || f[1] != "HELP" || !strings.HasPrefix(f[2], "resolverd_") {
			continue
		}
		n++
		if !strings.Contains(docs.String(), f[2]) {
			t.Errorf("%s is not documented", f[2])
		}
	}
	if n < 5 || !strings.Contains(body, "resolverd_agent_followers 1") {
		t.Errorf("%d metrics in\n%s", n, body)
	}
}
