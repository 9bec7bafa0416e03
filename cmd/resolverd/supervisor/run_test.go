package supervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain is a child of the tests where they ask for one: its first argument says what
// it does.
func TestMain(m *testing.M) {
	if what := os.Getenv("SUPERVISOR_TEST"); what != "" {
		os.Exit(act(what, os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

func act(what string, args []string) int {
	note := func(line string) {
		f, err := os.OpenFile(os.Getenv("SUPERVISOR_TEST_FILE"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			panic(err)
		}
		fmt.Fprintln(f, line)
		f.Close()
	}
	name := strings.Join(args, " ")
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
	switch what {
	case "exit":
		note(name + " ran")
		return 2
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		note(fmt.Sprint(name, " pid ", os.Getpid()))
		Ready()
		select {}
	case "orphan":
		// Leaves a process of its own group behind.
		c := exec.Command("sleep", "300")
		if err := c.Start(); err != nil {
			panic(err)
		}
		note(fmt.Sprint(name, " pid ", c.Process.Pid))
		return 2
	case "parent":
		// Is a supervisor itself, to be killed.
		self, _ := os.Executable()
		os.Setenv("SUPERVISOR_TEST", "work")
		Run(context.Background(), Config{Children: []Child{{Name: "c", Path: self, Args: []string{"c"}}}, Log: slog.New(slog.DiscardHandler)})
		return 0
	case "work":
		in, _ := io.ReadAll(os.Stdin)
		note(fmt.Sprint(name, " pid ", os.Getpid(), " in ", string(in)))
		Ready()
		for s := range signals {
			note(name + " " + s.String())
			if s != syscall.SIGHUP {
				return 0
			}
		}
	}
	return 99
}

// stage runs a supervisor over children that note what happens to them.
type stage struct {
	t      *testing.T
	file   string
	log    *safeBuffer
	cancel context.CancelFunc
	config Config
	ended  chan error
	hangup chan struct{}
	kill   chan struct{}
	mu     sync.Mutex
	ready  map[string]int
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newStage(t *testing.T) *stage {
	s := &stage{
		t: t, file: filepath.Join(t.TempDir(), "notes"), log: &safeBuffer{}, ended: make(chan error, 1),
		hangup: make(chan struct{}), kill: make(chan struct{}), ready: map[string]int{},
	}
	s.config = Config{
		Log: slog.New(slog.NewTextHandler(s.log, nil)), Hangup: s.hangup, Kill: s.kill,
		Ready: func(n string) { s.mu.Lock(); s.ready[n]++; s.mu.Unlock() },
	}
	return s
}

func (s *stage) child(name, what string) Child {
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	return Child{
		Name: name, Path: self, Args: []string{name}, StopAfter: 5 * time.Second,
		Env:      append(os.Environ(), "SUPERVISOR_TEST="+what, "SUPERVISOR_TEST_FILE="+s.file),
		Hopeless: func(code int) bool { return code == 2 },
	}
}

func (s *stage) start(children ...Child) {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.config.Children = children
	go func() { s.ended <- Run(ctx, s.config) }()
	s.t.Cleanup(func() { cancel() })
}

func (s *stage) end() error {
	s.cancel()
	return s.wait()
}

func (s *stage) wait() error {
	select {
	case err := <-s.ended:
		return err
	case <-time.After(20 * time.Second):
		s.t.Fatalf("the supervisor does not end; log:\n%s", s.log)
		return nil
	}
}

func (s *stage) notes() []string {
	b, err := os.ReadFile(s.file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

// until waits for cond; it polls, for what is waited for is another process.
func (s *stage) until(what string, cond func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited in vain for %s; notes %q, log:\n%s", what, s.notes(), s.log)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (s *stage) readies(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready[name]
}

// pids returns those that name has noted, in order.
func (s *stage) pids(name string) (pids []int) {
	for _, n := range s.notes() {
		f := strings.Fields(n)
		if len(f) > 2 && f[0] == name && f[1] == "pid" {
			pid, err := strconv.Atoi(f[2])
			if err != nil {
				s.t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func TestStopOrder(t *testing.T) {
	s := newStage(t)
	a := s.child("a", "work")
	a.Input = []byte("hello")
	s.start(a, s.child("b", "work"))
	s.until("both", func() bool { return s.readies("a") == 1 && s.readies("b") == 1 })
	s.hangup <- struct{}{}
	s.until("the hangups", func() bool { return strings.Count(strings.Join(s.notes(), "\n"), "hangup") == 2 })
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	notes := s.notes()
	if last := notes[len(notes)-2:]; last[0] != "a terminated" || last[1] != "b terminated" {
		t.Errorf("the children ended as %q, want a, then b", last)
	}
	if !strings.Contains(strings.Join(notes, "\n"), "in hello") {
		t.Errorf("the input did not arrive: %q", notes)
	}
	for _, pid := range append(s.pids("a"), s.pids("b")...) {
		if !gone(pid) {
			t.Errorf("pid %d still lives", pid)
		}
	}
}

func TestKilledChildIsStartedAgain(t *testing.T) {
	s := newStage(t)
	s.start(s.child("a", "work"), s.child("b", "work"))
	s.until("both", func() bool { return s.readies("a") == 1 && s.readies("b") == 1 })
	for n := 1; n <= 3; n++ {
		if err := syscall.Kill(s.pids("b")[n-1], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		s.until("b to be back", func() bool { return s.readies("b") == n+1 })
	}
	if len(s.pids("a")) != 1 {
		t.Errorf("a was started %d times", len(s.pids("a")))
	}
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	if log := s.log.String(); !strings.Contains(log, "signal killed") {
		t.Errorf("the log does not say how the child ended:\n%s", log)
	}
}

func TestHopelessChildEndsEverything(t *testing.T) {
	s := newStage(t)
	s.start(s.child("a", "exit"), s.child("b", "work"))
	err := s.wait()
	var h *Hopeless
	if !errors.As(err, &h) || h.Name != "a" || h.Exit.Code != 2 {
		t.Fatalf("Run returned %v", err)
	}
	for _, pid := range s.pids("b") {
		if !gone(pid) {
			t.Errorf("b, pid %d, still lives", pid)
		}
	}
}

// A child that has worked once is never given up, whatever it ends with.
func TestOnceReadyIsNeverHopeless(t *testing.T) {
	s := newStage(t)
	// A shell says ready the first time, and ends with the hopeless code each time.
	mark := filepath.Join(t.TempDir(), "mark")
	c := Child{
		Name: "a", Path: "/bin/sh", Hopeless: func(code int) bool { return code == 2 },
		Args: []string{"-c", fmt.Sprintf(`echo run >> %[1]s; [ $(wc -l < %[1]s) = 1 ] && echo ready >&3; exit 2`, mark)},
	}
	s.start(c)
	s.until("three runs", func() bool { b, _ := os.ReadFile(mark); return bytes.Count(b, []byte("run")) >= 3 })
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
}

func TestAfter(t *testing.T) {
	t.Run("one that is ready", func(t *testing.T) {
		s := newStage(t)
		b := s.child("b", "work")
		b.After, b.AfterAtMost = "a", time.Hour
		s.start(s.child("a", "work"), b)
		s.until("b", func() bool { return s.readies("b") == 1 })
		if notes := s.notes(); !strings.HasPrefix(notes[0], "a ") {
			t.Errorf("started as %q, want a first", notes)
		}
		if err := s.end(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("one that is slow", func(t *testing.T) {
		s := newStage(t)
		b := s.child("b", "work")
		b.After, b.AfterAtMost = "a", 50*time.Millisecond
		s.start(Child{Name: "a", Path: "/bin/sleep", Args: []string{"300"}}, b)
		s.until("b", func() bool { return s.readies("b") == 1 })
		if err := s.end(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("one that is refused", func(t *testing.T) {
		s := newStage(t)
		b := s.child("b", "work")
		b.After, b.AfterAtMost = "a", time.Hour
		s.start(s.child("a", "exit"), b)
		var h *Hopeless
		if err := s.wait(); !errors.As(err, &h) {
			t.Fatalf("Run returned %v", err)
		}
		if notes := s.notes(); len(notes) != 1 {
			t.Errorf("notes %q, want only a's", notes)
		}
	})
}

func TestStubbornChildIsKilled(t *testing.T) {
	t.Run("in time", func(t *testing.T) {
		s := newStage(t)
		c := s.child("a", "stubborn")
		c.StopAfter = 100 * time.Millisecond
		s.start(c)
		s.until("ready", func() bool { return s.readies("a") == 1 })
		if err := s.end(); err != nil {
			t.Fatal(err)
		}
		if pid := s.pids("a")[0]; !gone(pid) {
			t.Errorf("pid %d still lives", pid)
		}
	})
	t.Run("on a second signal", func(t *testing.T) {
		s := newStage(t)
		c := s.child("a", "stubborn")
		c.StopAfter = time.Hour
		s.start(c)
		s.until("ready", func() bool { return s.readies("a") == 1 })
		s.cancel()
		s.kill <- struct{}{}
		if err := s.wait(); err != nil {
			t.Fatal(err)
		}
		if pid := s.pids("a")[0]; !gone(pid) {
			t.Errorf("pid %d still lives", pid)
		}
	})
}

func TestWhatAChildLeavesBehindIsKilled(t *testing.T) {
	s := newStage(t)
	s.start(s.child("a", "orphan"))
	s.wait()
	pid := s.pids("a")[0]
	s.until("the orphan's end", func() bool {
		// Its new parent may be slow to wait for it: a zombie is as good.
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(b), ") Z ")
	})
}

// The children end with a supervisor that is killed.
func TestKilledSupervisor(t *testing.T) {
	s := newStage(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "SUPERVISOR_TEST=parent", "SUPERVISOR_TEST_FILE="+s.file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.until("the child", func() bool { return len(s.pids("c")) == 1 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	s.until("the child's end", func() bool { return strings.Contains(strings.Join(s.notes(), "\n"), "c terminated") })
}

func TestMissingProgram(t *testing.T) {
	s := newStage(t)
	s.start(Child{Name: "a", Path: "/nowhere/resolverd"}, s.child("b", "work"))
	var h *Hopeless
	if err := s.wait(); !errors.As(err, &h) || !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("Run returned %v", err)
	}
}

func TestRestart(t *testing.T) {
	const slowest = 2 * time.Second
	var got []time.Duration
	quicks := 0
	for range 8 {
		var wait time.Duration
		wait, quicks = restart(time.Second, quicks, slowest)
		got = append(got, wait)
	}
	want := "[0s 100ms 200ms 400ms 800ms 1.6s 2s 2s]"
	if fmt.Sprint(got) != want {
		t.Errorf("waits %v, want %s", got, want)
	}
	if wait, n := restart(quick, 7, slowest); wait != 0 || n != 0 {
		t.Errorf("after a long life: wait %s, count %d", wait, n)
	}
	if wait, _ := restart(0, 1_000_000, slowest); wait != slowest {
		t.Errorf("after very many: wait %s", wait)
	}
}

func TestReadyWithoutSupervisor(t *testing.T) {
	t.Setenv(readyVariable, "")
	if Ready() {
		t.Error("Ready found a supervisor")
	}
}

func TestWithout(t *testing.T) {
	got := without([]string{"A=1", "NOTIFY_SOCKET=/x", "NOTIFY_SOCKETS=2", "B"}, "NOTIFY_SOCKET")
	if strings.Join(got, " ") != "A=1 NOTIFY_SOCKETS=2 B" {
		t.Errorf("left over: %q", got)
	}
}
