package corefile

import (
	"context"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/resolverd/resolverd/internal/testnet"
)

// TestStall sees that every TCP listener, after a reload too, ends connections of clients
// that do not read.
func TestStall(t *testing.T) {
	port := testnet.Port(t)
	file := write(t, says(port, "one"))
	r := started(t, Config{Source: Source{File: file}})
	for range 2 {
		found := false
		for _, s := range servers(r.instance) {
			if s.listener == nil {
				continue
			}
			found = true
			if got := userTimeout(t, s.listener); got != stallTimeout {
				t.Errorf("%s: %s, want %s", s.listener.Addr(), got, stallTimeout)
			}
		}
		if !found {
			t.Error("no TCP listener")
		}
		rewrite(t, file, says(port, "two"))
		if err := r.Reload(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

func userTimeout(t *testing.T, l net.Listener) time.Duration {
	t.Helper()
	raw, err := l.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var ms int
	if cerr := raw.Control(func(fd uintptr) {
		ms, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
	}); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	return time.Duration(ms) * time.Millisecond
}
