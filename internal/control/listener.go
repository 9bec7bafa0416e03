package control

import (
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// listener bounds the connections at a time and asks the kernel who connects.
type listener struct {
	net.Listener
	free chan struct{} // holds one for each open connection
}

func (l *listener) Accept() (net.Conn, error) {
	l.free <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	out := &conn{Conn: c, free: l.free}
	if u, ok := c.(*net.UnixConn); ok {
		uid, err := peerUID(u)
		out.uid, out.known = uid, err == nil
	}
	return out, nil
}

// conn is a connection with the uid of its peer.
type conn struct {
	net.Conn
	uid   uint32
	known bool // uid was read

	once sync.Once
	free chan struct{}
}

func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { <-c.free })
	return err
}

// peerUID returns the uid that the process at the other end had when it connected.
func peerUID(c syscall.Conn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var inner error
	if err := raw.Control(func(fd uintptr) {
		cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if inner != nil {
		return 0, inner
	}
	return cred.Uid, nil
}
