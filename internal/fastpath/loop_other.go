//go:build !linux

package fastpath

import "net/netip"

// Without recvmmsg there is no engine: Adopt returns ErrUnsupported.

type sockaddr struct{}

func (*sockaddr) addrPort() netip.AddrPort { return netip.AddrPort{} }
func (*sockaddr) client() netip.AddrPort   { return netip.AddrPort{} }

type socket struct {
	plane *plane
	addr  netip.AddrPort
	fd    int
}

func openSocket(*plane, netip.AddrPort) (*socket, error) { return nil, ErrUnsupported }
func (*socket) send([]byte, *sockaddr) (int, error)      { return 0, ErrUnsupported }
func (*socket) release()                                 {}
func (*socket) close()                                   {}
func steer(int, int, bool) error                         { return ErrUnsupported }

type loop struct{}

func newLoop(*reader) (*loop, error)         { return nil, ErrUnsupported }
func (*loop) start()                         {}
func (*loop) stop()                          {}
func (*loop) poll([]*socket) <-chan struct{} { return nil }
func (*loop) rest(*socket, *ring)            {}
