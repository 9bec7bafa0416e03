package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("CONTROL_TEST_SOCKET"); path != "" {
		// The other user's process: report what the server says.
		err := NewClient(path).Reload(context.Background())
		var e *Error
		if errors.As(err, &e) {
			os.Stdout.WriteString(e.Text + "|" + e.Tip)
		} else {
			os.Stdout.WriteString("no refusal: " + errText(err))
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func errText(err error) string {
	if err == nil {
		return "nil"
	}
	return err.Error()
}

type tipped struct{}

func (tipped) Error() string { return "Corefile:3: unknown directive \"fowrard\"" }
func (tipped) Hint() string  { return "did you mean \"forward\"?" }

func serve(t *testing.T, verbs map[string]Func) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "control.sock")
	s, err := Listen(path, 0o600, verbs, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return NewClient(path)
}

func TestCalls(t *testing.T) {
	var got Flush
	c := serve(t, map[string]Func{
		VerbReload:     func(context.Context, json.RawMessage) (any, error) { return nil, tipped{} },
		VerbCacheStats: func(context.Context, json.RawMessage) (any, error) { return map[string]int{"entries": 7}, nil },
		VerbCacheFlush: func(_ context.Context, p json.RawMessage) (any, error) {
			if err := json.Unmarshal(p, &got); err != nil {
				return nil, err
			}
			return Flushed{Removed: 3}, nil
		},
	})
	var e *Error
	if err := c.Reload(t.Context()); !errors.As(err, &e) || e.Text != (tipped{}).Error() || e.Tip != (tipped{}).Hint() {
		t.Errorf("reload: %#v", err)
	}
	var stats map[string]int
	if err := c.Call(t.Context(), VerbCacheStats, nil, &stats); err != nil || stats["entries"] != 7 {
		t.Errorf("stats: %v %v", stats, err)
	}
	if n, err := c.CacheFlush(t.Context(), Flush{Suffix: "example.org."}); n != 3 || err != nil || got.Suffix != "example.org." {
		t.Errorf("flush: %d %v, handler saw %+v", n, err, got)
	}
	if _, err := c.CacheFlush(t.Context(), Flush{All: true, Name: "x."}); err == nil {
		t.Error("a flush of two kinds went through")
	}
	if err := c.Call(t.Context(), "reboot", nil, nil); !errors.As(err, &e) || !strings.Contains(e.Text, `"reboot"`) {
		t.Errorf("unknown verb: %v", err)
	}
}

func TestBounds(t *testing.T) {
	c := serve(t, map[string]Func{VerbReload: func(context.Context, json.RawMessage) (any, error) { return nil, nil }})
	for name, tc := range map[string]struct {
		method, body string
		want         int
	}{
		"get":      {http.MethodGet, "", http.StatusMethodNotAllowed},
		"large":    {http.MethodPost, `"` + strings.Repeat("x", maxBody) + `"`, http.StatusRequestEntityTooLarge},
		"not json": {http.MethodPost, "{", http.StatusBadRequest},
		"empty":    {http.MethodPost, "", http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			req, _ := http.NewRequest(tc.method, "http://resolverd/v1/reload", strings.NewReader(tc.body))
			resp, err := c.http.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if b, _ := io.ReadAll(resp.Body); resp.StatusCode != tc.want {
				t.Errorf("status %d, want %d: %s", resp.StatusCode, tc.want, b)
			}
		})
	}
}

func TestManyConnections(t *testing.T) {
	c := serve(t, map[string]Func{VerbStatus: func(context.Context, json.RawMessage) (any, error) { return 1, nil }})
	errs := make(chan error)
	for range 4 * maxConns {
		go func() { errs <- c.Call(t.Context(), VerbStatus, nil, nil) }()
	}
	for range 4 * maxConns {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestSocketFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "control.sock")
	if err := NewClient(path).Reload(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("no socket: %v", err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	ln.Close() // as after kill -9
	if err := NewClient(path).Reload(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("dead socket: %v", err)
	}
	s, err := Listen(path, 0o660, nil, nil)
	if err != nil {
		t.Fatalf("a dead socket was not replaced: %v", err)
	}
	if fi, _ := os.Stat(path); fi.Mode().Perm() != 0o660 {
		t.Errorf("mode %v", fi.Mode())
	}
	if _, err := Listen(path, 0o600, nil, nil); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second server: %v", err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file, 0o600, nil, nil); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file in the way: %v", err)
	}
	if _, err := Listen(filepath.Join(dir, strings.Repeat("x", 120)), 0o600, nil, nil); err == nil || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("long path: %v", err)
	}
}

// TestOtherUser connects as nobody, through a directory and a socket that are open to
// all: the peer's uid alone must refuse.
func TestOtherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Log("not root: a process of another user cannot be made here")
		return
	}
	dir, err := os.MkdirTemp("/tmp", "control")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "c.sock")
	ran := false
	s, err := Listen(path, 0o600, map[string]Func{VerbReload: func(context.Context, json.RawMessage) (any, error) { ran = true; return nil, nil }}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background())
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "other")
	if err := os.WriteFile(exe, self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = []string{"CONTROL_TEST_SOCKET=" + path}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if want := "uid 65534 may not control this resolverd|run the command as root or as the user that resolverd runs as"; string(out) != want || ran {
		t.Errorf("got %q, verb ran: %v", out, ran)
	}
}
