package corefile

import (
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stallTimeout is how long a TCP client may leave unread what was sent to it. The library
// writes without a deadline, so that clients who ask for much and read nothing would hold
// their responses in memory for ever.
const stallTimeout = 10 * time.Second

// boundStall has the kernel end connections accepted from l whose client does not read.
// A listener that is wrapped (PROXY protocol) is left as it is.
func boundStall(l net.Listener) error {
	s, ok := l.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return fmt.Errorf("corefile: %s: %w", l.Addr(), err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		// What is accepted inherits it.
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(stallTimeout.Milliseconds()))
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("corefile: %s: TCP_USER_TIMEOUT: %w", l.Addr(), err)
	}
	return nil
}
