package whole

import (
	"encoding/csv"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
	"github.com/miekg/dns"
)

// haproxy is a real HAProxy that runs one of examples/haproxy.
type haproxy struct{ socket string }

// startHAProxy runs an example with its port 53 and socket replaced, and with shorter
// hold times so that removals are seen within the test.
func startHAProxy(t testing.TB, example string) *haproxy {
	t.Helper()
	text, err := os.ReadFile(repository(t, "examples", "haproxy", example))
	if err != nil {
		t.Fatal(err)
	}
	h := &haproxy{socket: filepath.Join(shortDir(t), "a.sock")}
	config := strings.NewReplacer("/run/haproxy/admin.sock", h.socket, "127.0.0.1:53", listen,
		"hold obsolete 30s", "hold obsolete 2s", "hold nx 30s", "hold nx 2s").Replace(string(text))
	spawn(t, peer(t, "haproxy"), "-db", "-f", write(t, filepath.Join(t.TempDir(), "haproxy.cfg"), config))
	eventually(t, 10*time.Second, "HAProxy's socket answers", func() error {
		_, err := h.ask("show info")
		return err
	})
	return h
}

func (h *haproxy) ask(command string) (string, error) {
	c, err := net.DialTimeout("unix", h.socket, time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := fmt.Fprintln(c, command); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}

// servers returns "address:port weight" of each server that has an address, sorted.
func (h *haproxy) servers() ([]string, error) {
	out, err := h.ask("show stat web 4 -1")
	if err != nil {
		return nil, err
	}
	r := csv.NewReader(strings.NewReader(strings.TrimPrefix(out, "# ")))
	rows, err := r.ReadAll()
	if err != nil || len(rows) == 0 {
		return nil, fmt.Errorf("show stat: %w: %q", err, out)
	}
	column := map[string]int{}
	for i, c := range rows[0] {
		column[c] = i
	}
	var list []string
	for _, row := range rows[1:] {
		if addr := row[column["addr"]]; addr != "" && !strings.HasPrefix(row[column["status"]], "MAINT") {
			list = append(list, addr+" "+row[column["weight"]])
		}
	}
	sort.Strings(list)
	return list, nil
}

func (h *haproxy) expect(t testing.TB, bound time.Duration, what string, want ...string) {
	t.Helper()
	eventually(t, bound, what, func() error {
		got, err := h.servers()
		if err == nil && !sameSet(got, want) {
			err = fmt.Errorf("servers %v, want %v", got, want)
		}
		return err
	})
}

func TestHAProxyBySRV(t *testing.T) {
	p := start(t, plainCorefile)
	set := func(id, addr string, port, weight int, status string) {
		p.register(t, func(r *consul.AgentServiceRegistration) {
			r.ID, r.Address, r.Port = id, addr, port
			r.Weights = &consul.AgentWeights{Passing: weight, Warning: 1}
			r.Check = &consul.AgentServiceCheck{CheckID: "c-" + id, TTL: "10m", Status: status}
		})
	}
	set("web-1", "10.0.0.1", 8001, 1, "passing")
	set("web-2", "10.0.0.2", 8002, 10, "passing")
	set("web-3", "10.0.0.3", 8003, 100, "passing")
	h := startHAProxy(t, "srv.cfg")
	h.expect(t, 15*time.Second, "three servers with their weights", "10.0.0.1:8001 1", "10.0.0.2:8002 10", "10.0.0.3:8003 100")

	if err := p.api.Agent().UpdateTTL("c-web-1", "down", "critical"); err != nil {
		t.Fatal(err)
	}
	h.expect(t, 20*time.Second, "a critical instance leaves", "10.0.0.2:8002 10", "10.0.0.3:8003 100")
	if err := p.api.Agent().UpdateTTL("c-web-1", "up", "passing"); err != nil {
		t.Fatal(err)
	}
	h.expect(t, 20*time.Second, "it is back", "10.0.0.1:8001 1", "10.0.0.2:8002 10", "10.0.0.3:8003 100")
	set("web-2", "10.0.0.2", 8002, 200, "passing")
	h.expect(t, 20*time.Second, "a weight follows", "10.0.0.1:8001 1", "10.0.0.2:8002 200", "10.0.0.3:8003 100")
	p.cli(t, "service", "drain", "web-3")
	h.expect(t, 20*time.Second, "a drained instance has weight 0", "10.0.0.1:8001 1", "10.0.0.2:8002 200", "10.0.0.3:8003 0")

	h.steady(t, 10*time.Second)
}

func TestHAProxyFifty(t *testing.T) {
	p := start(t, plainCorefile)
	var want []string
	for i := range 50 {
		p.register(t, func(r *consul.AgentServiceRegistration) {
			r.ID, r.Address, r.Port = fmt.Sprintf("web-%d", i), fmt.Sprintf("10.0.2.%d", i+1), 8000+i
		})
		want = append(want, fmt.Sprintf("10.0.2.%d:%d 1", i+1, 8000+i))
	}
	h := startHAProxy(t, "srv.cfg")
	h.expect(t, 20*time.Second, "fifty servers", want...)
	h.steady(t, 10*time.Second)
	if out, err := h.ask("show resolvers"); err != nil || !strings.Contains(out, "too_big:     0") && !strings.Contains(out, "too_big: 0") {
		t.Errorf("HAProxy dropped replies as too big: %v\n%s", err, out)
	}
}

func TestHAProxyByA(t *testing.T) {
	p := start(t, plainCorefile)
	p.register(t, nil)
	expect(t, 2*time.Second, "web.service.internal", dns.TypeA, "NOERROR", "10.0.0.1")
	h := startHAProxy(t, "a.cfg")
	h.expect(t, 15*time.Second, "the server has the address", "10.0.0.1:80 1")
	p.register(t, func(r *consul.AgentServiceRegistration) { r.Address = "10.0.0.9" })
	h.expect(t, 15*time.Second, "the server follows", "10.0.0.9:80 1")
	h.steady(t, 5*time.Second)
}

// steady fails where anything about the servers changes while nothing changes in the
// registry.
func (h *haproxy) steady(t testing.TB, during time.Duration) {
	t.Helper()
	first, err := h.state()
	if err != nil {
		t.Fatal(err)
	}
	end := time.After(during)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-end:
			return
		case <-tick.C:
		}
		now, err := h.state()
		if err != nil {
			t.Fatal(err)
		}
		if now != first {
			t.Fatalf("the servers changed while nothing did:\n%s\nbefore:\n%s", now, first)
		}
	}
}

// state returns what HAProxy knows of its servers, less the time since their last change.
func (h *haproxy) state() (string, error) {
	out, err := h.ask("show servers state web")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) > 10 && f[0] != "#" {
			f[9] = "-" // srv_time_since_last_change
		}
		fmt.Fprintln(&b, strings.Join(f, " "))
	}
	return b.String(), nil
}
