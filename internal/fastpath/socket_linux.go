package fastpath

import (
	"net/netip"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sockaddr is a raw socket address of either family.
type sockaddr struct {
	raw unix.RawSockaddrInet6
	len uint32
}

// addrPort returns the address, IPv4 as IPv4.
func (s *sockaddr) addrPort() netip.AddrPort {
	port := func(p uint16) uint16 { return p>>8 | p<<8 }
	if hostOrder() {
		port = func(p uint16) uint16 { return p }
	}
	if s.raw.Family == unix.AF_INET {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&s.raw))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), port(v4.Port))
	}
	return netip.AddrPortFrom(netip.AddrFrom16(s.raw.Addr), port(s.raw.Port))
}

// client returns the address as the chain has it, with the zone of a link-local one.
func (s *sockaddr) client() netip.AddrPort {
	a := s.addrPort()
	if s.raw.Family == unix.AF_INET6 && s.raw.Scope_id != 0 {
		a = netip.AddrPortFrom(a.Addr().WithZone(zoneName(s.raw.Scope_id)), a.Port())
	}
	return a
}

// hostOrder says whether this machine's order is the network's.
func hostOrder() bool {
	one := uint16(1)
	return *(*byte)(unsafe.Pointer(&one)) == 0
}

// receiveBuffer is what is asked of the kernel for each socket's queue, in octets.
const receiveBuffer = 4 << 20

// socket is one of the sockets on an address.
type socket struct {
	plane *plane
	addr  netip.AddrPort
	host  [16]byte // of addr as an IPv6 or IPv4 client has it, for sameHost
	fd    int

	mu     sync.RWMutex // guards closed against sends of the chain
	closed bool
}

func openSocket(p *plane, addr netip.AddrPort) (*socket, error) {
	family := unix.AF_INET
	if addr.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*socket, error) {
		unix.Close(fd)
		return nil, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return fail(err)
	}
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return fail(err)
		}
	}
	// Every call but one asks not to wait; that one waits so long.
	timeout := unix.NsecToTimeval(int64(hold))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return fail(err)
	}
	// Beyond the kernel's own limit, if we may; the default will do.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	var sa unix.Sockaddr
	if family == unix.AF_INET {
		sa = &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	} else {
		sa = &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16(), ZoneId: zone(addr.Addr().Zone())}
	}
	if err := unix.Bind(fd, sa); err != nil {
		return fail(err)
	}
	return &socket{plane: p, addr: addr, host: addr.Addr().As16(), fd: fd}, nil
}

// send sends a reply of the chain.
func (s *socket) send(p []byte, to *sockaddr) (int, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return 0, unix.EBADF
	}
	var first *byte
	if len(p) > 0 {
		first = &p[0]
	}
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(first)), uintptr(len(p)),
			unix.MSG_DONTWAIT, uintptr(unsafe.Pointer(&to.raw)), uintptr(to.len))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}
			if n, err := unix.Poll(fds, sendWait); n == 0 || err != nil && err != unix.EINTR {
				return 0, unix.EAGAIN
			}
		default:
			return 0, errno
		}
	}
}

// sendWait bounds in milliseconds the wait for room in a socket's buffer.
const sendWait = 100

// release makes the kernel give the packets for the address to the sockets on the
// wildcard address again: a socket that is connected gets its peer's alone.
func (s *socket) release() {
	var sa unix.Sockaddr = &unix.SockaddrInet6{Port: discard, Addr: s.addr.Addr().As16()}
	if s.addr.Addr().Is4() {
		sa = &unix.SockaddrInet4{Port: discard, Addr: s.addr.Addr().As4()}
	}
	_ = unix.Connect(s.fd, sa) // the address may be gone, and then nobody sends to it
}

// discard is the port of RFC 863, from which no query comes.
const discard = 9

func (s *socket) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		unix.Close(s.fd)
	}
}

// steer tells the kernel which sockets of the address get the packets: those behind the
// first, by the CPU that took the packet, where past is set; else the first, which is
// the listener's own, for it was there before ours.
func steer(fd, n int, past bool) error {
	const (
		adOff = 0xFFFFF000 // SKF_AD_OFF
		adCPU = 36         // SKF_AD_CPU
	)
	prog := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	if past {
		prog = []unix.SockFilter{
			{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: adOff + adCPU},
			{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(n)},
			{Code: unix.BPF_ALU | unix.BPF_ADD | unix.BPF_K, K: 1},
			{Code: unix.BPF_RET | unix.BPF_A},
		}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
		&unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]})
}
