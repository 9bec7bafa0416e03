package relay

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// dialAs connects to the socket as another user would, which only root can. Only the
// calling thread changes its user, and only while it connects.
func dialAs(t *testing.T, uid int, path string) net.Conn {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	be := func(uid int) {
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); e != 0 {
			t.Fatal("setresuid:", e)
		}
	}
	be(uid)
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	be(0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "conn")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// welcomed says hello and reports whether the hub answers.
func welcomed(t *testing.T, c net.Conn) bool {
	t.Helper()
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	c.Write(appendHello(nil, hello{version: Version, name: "test"}))
	kind, _, err := newReader(c, MaxPayload).next()
	return err == nil && kind == typeWelcome
}

// TestOtherUsers opens the socket to everybody, so that only the kernel's word on who
// connects is left.
func TestOtherUsers(t *testing.T) {
	const answerer, stranger = 64001, 64002
	s := newSource(t, func(c *HubConfig) { c.UIDs = []int{answerer} })
	own, err := net.Dial("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	if !welcomed(t, own) {
		t.Error("the hub's own user is refused")
	}
	if os.Geteuid() != 0 {
		return // the decision itself is in TestAdmission
	}
	for dir := filepath.Dir(s.path); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(s.path, 0o666); err != nil {
		t.Fatal(err)
	}
	if !welcomed(t, dialAs(t, answerer, s.path)) {
		t.Error("the answerer's user is refused")
	}
	if welcomed(t, dialAs(t, stranger, s.path)) {
		t.Error("any user may follow")
	}
}

func TestListenReplacesWhatAKilledAgentLeft(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "relay.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if l, err = Listen(path); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil {
		t.Error("a file that is no socket was replaced")
	}
}

func TestHubThatIsFullOrStrangeHellos(t *testing.T) {
	s := newSource(t, func(c *HubConfig) { c.MaxFollowers = 2 })
	for name, b := range map[string][]byte{
		"not a hello": appendTick(nil, tick{1, time.Now()}),
		"garbage":     []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
		"too long":    appendHello(nil, hello{version: 1, name: string(make([]byte, maxFromFollower+1))}),
	} {
		c, err := net.Dial("unix", s.path)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		c.Write(b)
		if _, _, err := newReader(c, MaxPayload).next(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		c.Close()
	}
	var held []net.Conn
	for deadline := time.Now().Add(20 * time.Second); len(held) < 2; {
		c, err := net.Dial("unix", s.path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.Write(appendHello(nil, hello{version: Version}))
		if _, _, err := newReader(c, MaxPayload).next(); err == nil {
			held = append(held, c)
		} else if time.Now().After(deadline) { // those above may not have given up their places at once
			t.Fatal(err)
		}
	}
	c, err := net.Dial("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	if welcomed(t, c) {
		t.Errorf("a third follower is let in beside %d", len(held))
	}
}
