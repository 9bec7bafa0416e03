package supervisor

import (
	"fmt"
	"os"
	"syscall"
	"time"
)

// Child is a process to keep running.
type Child struct {
	// Name is for the log: "answerer", "agent".
	Name string
	// Path and Args are the program and its arguments, without the program's name.
	Path string
	Args []string
	// Title is its name in lists of processes; "" means Path.
	Title string
	// Env is the whole environment; nil means the supervisor's.
	Env []string
	// Input is what it reads on stdin; nil means nothing.
	Input []byte
	// Credential is whom it runs as; nil for the supervisor's own user.
	Credential *syscall.Credential
	// Caps are capabilities that it keeps although Credential is not root.
	Caps []uintptr
	// StopAfter bounds a graceful stop; then it is killed. Default 10 s.
	StopAfter time.Duration
	// SlowestRestart bounds the wait before a restart. Default 10 s.
	SlowestRestart time.Duration
	// Hopeless says of an exit code that starting again is of no use. It is asked only
	// until the child has been ready once; a resolver that has worked is kept alive.
	// May be nil.
	Hopeless func(code int) bool
	// After names a child that must be ready before this one is started the first time,
	// or AfterAtMost must have passed: one that is refused at its start then leaves no
	// trace of the others. "" starts it at once.
	After       string
	AfterAtMost time.Duration
}

// Exit is how a child ended.
type Exit struct {
	Code   int            // exit code, -1 where a signal ended it
	Signal syscall.Signal // 0 where it exited
}

func (e Exit) String() string {
	if e.Signal != 0 {
		return "signal " + e.Signal.String()
	}
	return fmt.Sprintf("exit code %d", e.Code)
}

// Hopeless is returned by Run when a child could not be started in earnest. One that ran
// has said why on stderr.
type Hopeless struct {
	Name string
	Exit Exit
	// Err is why it could not be started; nil where it ran.
	Err error
}

func (h *Hopeless) Error() string {
	if h.Err != nil {
		return fmt.Sprintf("the %s does not start: %v", h.Name, h.Err)
	}
	return fmt.Sprintf("the %s ended with %s", h.Name, h.Exit)
}

func (h *Hopeless) Unwrap() error { return h.Err }

// quick is a life so short that the next start waits longer.
const quick = 10 * time.Second

// restart decides when to start again a child that lived this long and had ended
// quickly so many times before: at once the first time, then 100 ms doubled up to
// slowest. It returns the new count.
func restart(lived time.Duration, quicks int, slowest time.Duration) (wait time.Duration, now int) {
	if lived >= quick {
		return 0, 0
	}
	if quicks > 0 {
		wait = min(100*time.Millisecond<<min(quicks-1, 16), slowest)
	}
	return wait, quicks + 1
}

// readyVariable names the file descriptor on which a child says that it is ready.
const readyVariable = "RESOLVERD_READY_FD"

// Ready tells the supervisor that this process does its work, and reports whether there
// is one. Call it once.
func Ready() bool {
	if os.Getenv(readyVariable) != "3" {
		return false
	}
	os.Unsetenv(readyVariable)
	f := os.NewFile(3, "ready")
	if f == nil {
		return false
	}
	_, err := f.WriteString("ready\n")
	f.Close()
	return err == nil
}
