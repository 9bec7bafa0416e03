package source_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/resolverd/resolverd/agent/check"
	"github.com/resolverd/resolverd/agent/source"
	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/catalog"
)

// TestFromFileToState runs the chain of an agent with a real server and a real script: a
// file is written, its service comes up, the server dies, the service is taken out, and
// stays out until the file changes.
func TestFromFileToState(t *testing.T) {
	view := registry.NewView()
	cat := catalog.New(view, source.NewMemory(view), slog.New(slog.DiscardHandler), time.Now)
	address, err := registry.ParseHost("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cat.Register(t.Context(), catalog.Actor{Name: "agent"}, catalog.Registration{Node: &registry.Node{Name: "n1", Address: address}}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	files := source.NewFiles(source.Config{Dir: dir, Node: "n1", Catalog: cat, View: view, Log: log})
	runner := check.NewRunner(check.Config{
		Node: "n1", View: view, Log: log, AllowScript: files.Vouches,
		Report: func(ctx context.Context, node, id string, s registry.Status, output string) error {
			_, err := cat.SetStatus(ctx, catalog.Actor{Name: "check"}, node, id, s, output)
			return err
		},
		Reap: func(ctx context.Context, node, id, reason string) error {
			_, err := cat.Deregister(ctx, catalog.Actor{Name: "reaper", Reason: reason}, node, id)
			return err
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := files.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		if err := runner.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer wg.Wait()
	defer cancel()

	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	write := func(port int) {
		t.Helper()
		text := fmt.Sprintf(`
service:
  name: web
  port: %d
  checks:
    - {http: "%s", interval: 200ms, failures_before_critical: 2, deregister_critical_after: 1s}
    - {args: [sh, -c, "test -d /tmp"], interval: 200ms}
`, port, srv.URL)
		if err := os.WriteFile(filepath.Join(dir, "web.yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	state := func() string {
		if i := view.Load().Instance("n1", "web"); i != nil {
			return i.State.String()
		}
		return "gone"
	}
	await := func(want string) {
		t.Helper()
		deadline := time.After(10 * time.Second)
		for state() != want {
			bell, leave := view.Listen(registry.Topic{Kind: registry.TopicAny})
			if state() == want {
				leave()
				return
			}
			select {
			case <-bell:
			case <-deadline:
				t.Fatalf("web is %s, want %s", state(), want)
			}
			leave()
		}
	}
	write(80)
	await("up")
	srv.Close()
	await("critical")
	await("gone")
	if view.Load().Tombstone("n1", "web") == nil {
		t.Fatal("no tombstone")
	}
	srv = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	write(81)
	await("up")
}
