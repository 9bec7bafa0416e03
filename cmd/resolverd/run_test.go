package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/cmd/resolverd/settings"
	"github.com/resolverd/resolverd/internal/control"
	"github.com/resolverd/resolverd/internal/testnet"
)

// started is a `resolverd run` of a test, on free ports of loopback.
type started struct {
	*exec.Cmd
	dir     string
	program string
	stderr  output
	notify  *net.UnixConn
	dns     string
}

// publicDir returns a directory with the program in it, with a short path, for the
// sockets, that other users may enter.
func publicDir(t *testing.T) (dir, program string) {
	t.Helper()
	self, err := exec.LookPath("resolverd")
	if err != nil {
		t.Fatal(err)
	}
	if dir, err = os.MkdirTemp("", "run"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(dir, "resolverd")
	if err := os.WriteFile(program, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir, program
}

// start runs resolverd until the test ends, and hears what it tells systemd. wrap, where
// not nil, is the command that runs it.
func start(t *testing.T, wrap []string, env ...string) *started {
	t.Helper()
	dir, program := publicDir(t)
	var err error
	s := &started{dir: dir, program: program, dns: "127.0.0.1:" + testnet.Port(t)}
	socket := filepath.Join(dir, "notify")
	if s.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.notify.Close() })
	ctx, cancel := context.WithCancel(context.Background())
	args := append(wrap, program, "run")
	s.Cmd = exec.CommandContext(ctx, args[0], args[1:]...)
	s.Dir = dir
	s.Env = append(os.Environ(),
		"NOTIFY_SOCKET="+socket,
		"RESOLVERD_DATA_DIR="+filepath.Join(dir, "data"),
		"RESOLVERD_DNS_PORT="+strings.TrimPrefix(s.dns, "127.0.0.1:"),
		"RESOLVERD_API_ADDRESS=127.0.0.1:"+testnet.Port(t),
		"RESOLVERD_NODE_NAME=n1", "RESOLVERD_NODE_ADDRESS=192.0.2.7",
	)
	for _, name := range []string{"HEALTH", "READY", "METRICS"} {
		s.Env = append(s.Env, "RESOLVERD_"+name+"=127.0.0.1:"+testnet.Port(t))
	}
	s.Env = append(s.Env, env...)
	s.Stderr = &s.stderr
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		s.Wait() // where the test did not come to it
	})
	return s
}

// told waits for the next message to systemd.
func (s *started) told(t *testing.T, want string) {
	t.Helper()
	b := make([]byte, 1024)
	s.notify.SetReadDeadline(time.Now().Add(scriptPatience))
	n, err := s.notify.Read(b)
	if err != nil {
		t.Fatalf("systemd hears nothing: %v", err)
	}
	if !strings.HasPrefix(string(b[:n]), want) {
		t.Fatalf("systemd hears %q, want %q", b[:n], want)
	}
}

func (s *started) terminate(t *testing.T) {
	t.Helper()
	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.told(t, "STOPPING=1")
	if err := s.Wait(); err != nil {
		t.Errorf("it ended with %v:\n%s", err, &s.stderr)
	}
}

// TestSystemdAndJSON follows a run with systemd's protocol, and reads its log.
func TestSystemdAndJSON(t *testing.T) {
	s := start(t, nil, "RESOLVERD_LOG_FORMAT=json")
	s.told(t, "READY=1\nSTATUS=ready")
	client := control.NewClient(filepath.Join(s.dir, "data/run/control.sock"))
	if err := client.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	var status answererStatus
	if err := client.Call(t.Context(), control.VerbStatus, nil, &status); err != nil {
		t.Fatal(err)
	}
	if status.Listeners[0] != s.dns || status.Corefile == "" {
		t.Errorf("status is %+v", status)
	}
	s.terminate(t)
	processes, messages := map[string]bool{}, map[string]bool{}
	for line := range bytes.Lines([]byte(s.stderr.String())) {
		var r struct{ Time, Level, Msg, Process string }
		if err := json.Unmarshal(line, &r); err != nil || r.Time == "" || r.Level == "" || r.Process == "" {
			t.Errorf("no record (%v): %s", err, line)
		}
		processes[r.Process], messages[r.Msg] = true, true
	}
	for _, p := range []string{"supervisor", "answerer", "agent"} {
		if !processes[p] {
			t.Errorf("the %s logs nothing", p)
		}
	}
	// CoreDNS says it with the log package.
	if !messages["Reloading complete"] || !messages["reloaded"] {
		t.Errorf("messages are %v", messages)
	}
}

// TestTaken has another program on the port of the DNS, then on that of the API: it is
// said at once, and ends everything.
func TestTaken(t *testing.T) {
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	for _, tt := range []struct{ name, variable, value, want string }{
		{"DNS", "RESOLVERD_DNS_PORT", udp.LocalAddr().String()[len("127.0.0.1:"):], "cannot listen on udp " + udp.LocalAddr().String() + ": in use by "},
		{"API", "RESOLVERD_API_ADDRESS", tcp.Addr().String(), "cannot listen on tcp " + tcp.Addr().String() + ": in use by "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, nil, tt.variable+"="+tt.value)
			s.Wait()
			if code := s.ProcessState.ExitCode(); code != exitInUse || !strings.Contains(s.stderr.String(), tt.want) {
				t.Errorf("exit code %d, and no %q in\n%s", code, tt.want, &s.stderr)
			}
		})
	}
}

// TestAnswererGetsNoToken looks at what the children are handed.
func TestAnswererGetsNoToken(t *testing.T) {
	t.Setenv(tokenVariable, "client-secret")
	l := settings.Loaded{Settings: settings.Default()}
	l.API.Token, l.API.TokenFile = "api-secret", "/etc/resolverd/token"
	children, err := childrenOf(l, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range children {
		if got, want := strings.Contains(string(c.Input), "api-secret"), c.Name == "agent"; got != want {
			t.Errorf("the %s gets the API's token: %v", c.Name, got)
		}
		if strings.Contains(strings.Join(c.Env, " "), "client-secret") {
			t.Errorf("the %s gets %s", c.Name, tokenVariable)
		}
	}
	if len(children) != 2 || children[0].Name != "answerer" {
		t.Errorf("the answerer must stop first")
	}
}

// TestAnswererUser has root's answerer run as another user, with nothing but the right
// to low ports.
func TestAnswererUser(t *testing.T) {
	if os.Geteuid() != 0 {
		if s, err := exec.LookPath("resolverd"); err == nil {
			c := exec.Command(s, "run", "--data-dir", t.TempDir())
			c.Env = append(os.Environ(), "RESOLVERD_ANSWERER_USER=nobody")
			out, err := c.CombinedOutput()
			if c.ProcessState.ExitCode() != exitDenied {
				t.Errorf("%v: %s", err, out)
			}
		}
		return
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("s3cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, nil, "RESOLVERD_ANSWERER_USER=nobody", "RESOLVERD_API_TOKEN_FILE="+token)
	s.told(t, "READY=1")
	b, err := os.ReadFile(filepath.Join(s.dir, "data/answerer/lock"))
	if err != nil {
		t.Fatal(err)
	}
	var holder struct{ PID int }
	if err := json.Unmarshal(b, &holder); err != nil {
		t.Fatal(err)
	}
	// The agent's socket lets it in.
	s.comes(t, "n1.node.internal.", "192.0.2.7")
	proc := "/proc/" + strconv.Itoa(holder.PID)
	if b, err = os.ReadFile(proc + "/status"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"\nUid:\t" + strings.Repeat(nobody.Uid+"\t", 3) + nobody.Uid + "\n",
		"\nGroups:\t \n", "\nCapEff:\t0000000000000400\n", "\nCapPrm:\t0000000000000400\n",
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("its status has no %q:\n%s", want, b)
		}
	}
	for _, d := range []string{"agent", "agent/store"} {
		fi, err := os.Stat(filepath.Join(s.dir, "data", d))
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", d, fi.Mode())
		}
	}
	if err := control.NewClient(filepath.Join(s.dir, "data/run/control.sock")).Reload(t.Context()); err != nil {
		t.Error(err)
	}
	s.terminate(t)
}

// TestFullDisk fills the disk under the store: the agent ends, and ends again, but the
// answers go on; with room again everything is as before.
func TestFullDisk(t *testing.T) {
	wrap := []string{"unshare", "--mount"}
	if os.Geteuid() != 0 {
		wrap = append(wrap, "--map-root-user")
	}
	s := start(t, append(wrap, "sh", "-c", `mkdir data && mount -t tmpfs -o size=140m tmpfs data && exec "$@"`, "sh"))
	s.told(t, "READY=1")
	register := func(args ...string) error {
		c := exec.Command(s.program, append([]string{"service", "register"}, args...)...)
		c.Env = s.Env
		out, err := c.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	if err := register("--name", "web", "--address", "192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	s.comes(t, "web.service.internal.", "192.0.2.1")
	// The mount is in a namespace of its own.
	disk := fmt.Sprintf("/proc/%d/root%s/data", s.Process.Pid, s.dir)
	fill, err := os.Create(disk + "/fill")
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = fill.Write(make([]byte, 1<<16))
	}
	fill.Close()
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	meta := "k=" + strings.Repeat("x", 400)
	for n := 0; register("--name", "s"+strconv.Itoa(n), "--port", "1", "--meta", meta) == nil; n++ {
		if n == 2000 {
			t.Fatal("the disk does not become full")
		}
	}
	for range 20 {
		s.asks(t, "web.service.internal.", "192.0.2.1")
		time.Sleep(50 * time.Millisecond) // the agent is being started again and again
	}
	if err := os.Remove(disk + "/fill"); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(2 * scriptPatience)
	for err = register("--name", "web2", "--address", "192.0.2.2"); err != nil; err = register("--name", "web2", "--address", "192.0.2.2") {
		if time.Now().After(deadline) {
			t.Fatalf("the agent does not come back: %v\n%s", err, &s.stderr)
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.asks(t, "web.service.internal.", "192.0.2.1")
	s.comes(t, "web2.service.internal.", "192.0.2.2")
	s.terminate(t)
	if log := s.stderr.String(); !strings.Contains(log, "exit code 74") {
		t.Errorf("the agent never ended:\n%s", log)
	}
}

// ask returns the one address of an A answer, or the RCODE.
func (s *started) ask(t *testing.T, name string) string {
	t.Helper()
	r, err := dns.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), s.dns)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Answer) == 1 {
		if a, ok := r.Answer[0].(*dns.A); ok {
			return a.A.String()
		}
	}
	return dns.RcodeToString[r.Rcode]
}

// comes waits for the answer: until the answerer has found the agent.
func (s *started) comes(t *testing.T, name, want string) {
	t.Helper()
	for deadline := time.Now().Add(scriptPatience); s.ask(t, name) != want; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not become %s:\n%s", name, want, &s.stderr)
		}
	}
}

// asks fails where the answer is another.
func (s *started) asks(t *testing.T, name, want string) {
	t.Helper()
	if got := s.ask(t, name); got != want {
		t.Fatalf("%s is %s, want %s", name, got, want)
	}
}

// output is written to by a process while the test reads it.
type output struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}
