package forward

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// inboxPackets is how many packets are read at once.
const inboxPackets = 8

// inbox reads packets from a connected socket, several in one system call: recvmmsg(2).
type inbox struct {
	size int
	mem  []byte
	iovs [inboxPackets]unix.Iovec
	msgs [inboxPackets]mmsghdr
	got  int
	err  error
	call func(fd uintptr) bool
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

var inboxes sync.Pool

// newInbox returns an inbox for packets of up to size octets.
func newInbox(size int) *inbox {
	if in, ok := inboxes.Get().(*inbox); ok && in.size == size {
		return in
	}
	in := &inbox{size: size, mem: make([]byte, size*inboxPackets)}
	for i := range in.msgs {
		in.iovs[i].Base = &in.mem[i*size]
		in.iovs[i].SetLen(size)
		in.msgs[i].hdr.Iov = &in.iovs[i]
		in.msgs[i].hdr.SetIovlen(1)
	}
	in.call = in.recvmmsg
	return in
}

func (in *inbox) free() { inboxes.Put(in) }

// recvmmsg reads what is there, and says whether that was something.
func (in *inbox) recvmmsg(fd uintptr) bool {
	for {
		// The socket does not block, so that the call is short and need not be told to the
		// scheduler.
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&in.msgs[0])), inboxPackets, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			in.got, in.err = int(n), nil
			return true
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		}
		in.got, in.err = 0, os.NewSyscallError("recvmmsg", errno)
		return true
	}
}

// receive waits for packets and returns how many came.
func (in *inbox) receive(c *net.UDPConn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	if err := raw.Read(in.call); err != nil {
		return 0, err
	}
	if in.err == nil && in.got == 0 {
		return 0, errors.New("no packet")
	}
	return in.got, in.err
}

// packet returns packet i, valid until the next receive.
func (in *inbox) packet(i int) []byte {
	return in.mem[i*in.size : i*in.size+int(in.msgs[i].len)]
}
