package forward

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// wantUnreachable asks the kernel to report every ICMP error on a connected UDP socket.
// By default it reports port unreachable only, and an upstream behind a missing route
// costs the whole timeout. That it cannot be set is no reason not to ask.
func wantUnreachable(network, _ string, c syscall.RawConn) error {
	if !strings.HasPrefix(network, "udp") {
		return nil
	}
	return c.Control(func(fd uintptr) { reportUnreachable(int(fd), strings.HasSuffix(network, "6")) })
}

func reportUnreachable(fd int, six bool) {
	if six {
		_ = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVERR, 1)
		return
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_RECVERR, 1)
}
