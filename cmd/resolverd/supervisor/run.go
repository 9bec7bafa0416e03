package supervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Config says what Run does.
type Config struct {
	// Children are started all at once, but for After, and stopped one by one in this
	// order.
	Children []Child
	// Log takes starts, ends and restarts.
	Log *slog.Logger
	// Ready is called with a child's name each time one says that it is ready, from
	// goroutines of Run; may be nil.
	Ready func(name string)
	// Hangup, where not nil, passes SIGHUP on to all children for each value.
	Hangup <-chan struct{}
	// Kill, where not nil, ends the graceful stop: what still lives is killed.
	Kill <-chan struct{}
}

// Run keeps the children running until ctx ends, then stops them and returns nil. It
// returns *Hopeless where one cannot be brought up at all; the others are stopped then.
func Run(ctx context.Context, c Config) error {
	sp := newSpawner()
	defer sp.close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	keepers := make([]*keeper, len(c.Children))
	for i, ch := range c.Children {
		keepers[i] = &keeper{
			Child: ch, spawn: sp, log: c.Log.With("child", ch.Name), ready: c.Ready,
			stop: make(chan struct{}), kill: make(chan struct{}), done: make(chan struct{}), up: make(chan struct{}),
		}
		if keepers[i].StopAfter == 0 {
			keepers[i].StopAfter = 10 * time.Second
		}
		if keepers[i].SlowestRestart == 0 {
			keepers[i].SlowestRestart = 10 * time.Second
		}
	}
	for _, k := range keepers {
		for _, other := range keepers {
			if k.After != "" && other.Name == k.After {
				k.after = other.up
			}
		}
		go k.run(func(h *Hopeless) { cancel(h) })
	}
	for running := true; running; {
		select {
		case <-ctx.Done():
			running = false
		case <-c.Hangup:
			for _, k := range keepers {
				k.signal(syscall.SIGHUP)
			}
		}
	}
	for _, k := range keepers {
		close(k.stop)
		select {
		case <-k.done:
		case <-c.Kill:
			c.Log.Warn("killing what still runs")
			for _, k := range keepers {
				close(k.kill)
			}
			c.Kill = nil
			<-k.done
		}
	}
	var h *Hopeless
	if errors.As(context.Cause(ctx), &h) {
		return h
	}
	return nil
}

// keeper keeps one child running.
type keeper struct {
	Child
	spawn *spawner
	log   *slog.Logger
	ready func(string)
	stop  chan struct{} // closed: stop the child
	kill  chan struct{} // closed: kill it
	done  chan struct{} // closed by run when the child is gone for good
	up    chan struct{} // closed when the child is ready for the first time
	after <-chan struct{}
	first sync.Once // closes up

	mu  sync.Mutex // guards pid
	pid int        // 0 while none runs
}

// signal sends s to the child if it runs.
func (k *keeper) signal(s syscall.Signal) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pid != 0 {
		_ = syscall.Kill(k.pid, s) // it may have ended this moment
	}
}

func (k *keeper) setPID(pid int) {
	k.mu.Lock()
	k.pid = pid
	k.mu.Unlock()
}

func (k *keeper) run(hopeless func(*Hopeless)) {
	defer close(k.done)
	if k.after != nil {
		t := time.NewTimer(k.AfterAtMost)
		defer t.Stop()
		select {
		case <-k.after:
		case <-t.C:
		case <-k.stop:
			return
		}
	}
	quicks, wasReady := 0, false
	for {
		started := time.Now()
		exit, ready, err := k.once()
		wasReady = wasReady || ready
		if k.stopping() {
			return
		}
		switch {
		case err != nil && !wasReady && (errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist)):
			hopeless(&Hopeless{Name: k.Name, Exit: Exit{Code: -1}, Err: err})
			return
		case err != nil:
			k.log.Error("child did not start", "error", err)
			exit = Exit{Code: -1}
		case !wasReady && k.Hopeless != nil && exit.Signal == 0 && k.Hopeless(exit.Code):
			hopeless(&Hopeless{Name: k.Name, Exit: exit})
			return
		}
		var wait time.Duration
		wait, quicks = restart(time.Since(started), quicks, k.SlowestRestart)
		k.log.Warn("child ended, starting it again", "how", exit.String(), "after", time.Since(started).Round(time.Millisecond).String(), "in", wait.String())
		select {
		case <-time.After(wait):
		case <-k.stop:
			return
		}
	}
}

func (k *keeper) stopping() bool {
	select {
	case <-k.stop:
		return true
	default:
		return false
	}
}

// once runs the child from start to end.
func (k *keeper) once() (exit Exit, ready bool, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return exit, false, err
	}
	cmd := k.command(w)
	err = k.spawn.start(cmd)
	w.Close()
	if err != nil {
		r.Close()
		return exit, false, err
	}
	pid := cmd.Process.Pid
	k.setPID(pid)
	k.log.Debug("child started", "pid", pid)

	heard := make(chan bool, 1)
	go func() {
		b, _ := io.ReadAll(io.LimitReader(r, 6))
		if string(b) == "ready\n" {
			k.log.Debug("child is ready", "pid", pid)
			k.first.Do(func() { close(k.up) })
			if k.ready != nil {
				k.ready(k.Name)
			}
		}
		heard <- string(b) == "ready\n"
	}()
	ended := make(chan struct{})
	go func() {
		waitZombie(pid)
		close(ended)
	}()
	k.await(ended)
	// What it left behind in its group goes too: the zombie still holds the number.
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	k.setPID(0)
	err = cmd.Wait()
	// What it wrote is in the pipe, and the end behind it; only where a grandchild of
	// another group holds the pipe open the reader would wait.
	_ = r.SetReadDeadline(time.Now().Add(time.Second))
	ready = <-heard
	r.Close()
	if cmd.ProcessState == nil {
		return exit, ready, err
	}
	exit.Code = cmd.ProcessState.ExitCode()
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		exit.Signal = ws.Signal()
	}
	return exit, ready, nil
}

// await returns when the child has ended, by itself or because it is to stop.
func (k *keeper) await(ended <-chan struct{}) {
	select {
	case <-ended:
		return
	case <-k.stop:
	}
	k.signal(syscall.SIGTERM)
	t := time.NewTimer(k.StopAfter)
	defer t.Stop()
	select {
	case <-ended:
		return
	case <-t.C:
		k.log.Warn("child did not stop in time, killing it", "after", k.StopAfter.String())
	case <-k.kill:
	}
	k.signal(syscall.SIGKILL)
	<-ended
}

func (k *keeper) command(ready *os.File) *exec.Cmd {
	cmd := exec.Command(k.Path, k.Args...)
	if k.Title != "" {
		cmd.Args[0] = k.Title
	}
	cmd.Env = k.Env
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	// NOTIFY_SOCKET is ours alone to write to.
	cmd.Env = append(without(cmd.Env, "NOTIFY_SOCKET", readyVariable), readyVariable+"=3")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if k.Input != nil {
		cmd.Stdin = bytes.NewReader(k.Input)
	}
	cmd.ExtraFiles = []*os.File{ready}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// Ctrl-C goes to a terminal's whole group; the order of stopping is ours.
		Setpgid:     true,
		Pdeathsig:   syscall.SIGTERM,
		Credential:  k.Credential,
		AmbientCaps: k.Caps,
	}
	return cmd
}

func without(env []string, names ...string) []string {
	var out []string
next:
	for _, kv := range env {
		for _, n := range names {
			if len(kv) > len(n) && kv[:len(n)] == n && kv[len(n)] == '=' {
				continue next
			}
		}
		out = append(out, kv)
	}
	return out
}

// waitZombie returns when the process has ended, and leaves it to be waited for.
func waitZombie(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// spawner starts all children from one thread that lives as long as Run: the kernel
// sends PR_SET_PDEATHSIG when the *thread* that forked ends.
type spawner struct {
	ask  chan *exec.Cmd
	told chan error
	mu   sync.Mutex // one start at a time
	done chan struct{}
}

func newSpawner() *spawner {
	s := &spawner{ask: make(chan *exec.Cmd), told: make(chan error), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		runtime.LockOSThread()
		// Not unlocked: the thread ends with the goroutine.
		for cmd := range s.ask {
			s.told <- cmd.Start()
		}
	}()
	return s
}

func (s *spawner) start(cmd *exec.Cmd) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ask <- cmd
	if err := <-s.told; err != nil {
		return fmt.Errorf("supervisor: start %s: %w", cmd.Path, err)
	}
	return nil
}

// close ends the thread; no child may run any more.
func (s *spawner) close() {
	close(s.ask)
	<-s.done
}
