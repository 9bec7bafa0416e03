package fastpath

import (
	"net"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// hold is how long a loop without a packet holds its thread for the next one, before
	// it waits as other goroutines do.
	hold = 20 * time.Millisecond
)

// loop is a goroutine with a thread of its own that answers from its sockets.
//
// While packets come it waits in ppoll by RawSyscall, which the scheduler does not see:
// to give the P away and take it back for every packet costs more than the packet. The
// garbage collector stops such a thread by a signal, on which ppoll returns EINTR and the
// loop yields; without the yield a collection would wait for the next packet. Without
// packets the wait is an ordinary system call.
type loop struct {
	batch *batch
	fds   []unix.PollFd // of the set, and of the relays behind them
	wake  int           // eventfd
	set   atomic.Pointer[pollSet]
	ended chan struct{}
}

// pollSet is what a loop waits for.
type pollSet struct {
	fds     []unix.PollFd // the wake fd first
	sockets []*socket
	last    bool // nothing any more: the loop ends
	taken   chan struct{}
}

func newLoop(r *reader) (*loop, error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	l := &loop{batch: newBatch(r.ring()), wake: fd, ended: make(chan struct{})}
	l.batch.looped = true
	l.set.Store(l.newSet(nil))
	return l, nil
}

func (l *loop) newSet(sockets []*socket) *pollSet {
	s := &pollSet{sockets: sockets, taken: make(chan struct{})}
	s.fds = append(s.fds, unix.PollFd{Fd: int32(l.wake), Events: unix.POLLIN})
	for _, o := range sockets {
		s.fds = append(s.fds, unix.PollFd{Fd: int32(o.fd), Events: unix.POLLIN})
	}
	return s
}

func (l *loop) start() { go l.run() }

// poll gives the loop another set of sockets. The channel is closed when it uses no
// other, and has finished every packet that it received from them.
func (l *loop) poll(sockets []*socket) <-chan struct{} {
	s := l.newSet(sockets)
	l.set.Store(s)
	l.ring()
	return s.taken
}

func (l *loop) ring() {
	one := [8]byte{7: 1}
	if !hostOrder() {
		one = [8]byte{0: 1}
	}
	_, _ = unix.Write(l.wake, one[:]) // full is rung
}

// stop ends the loop and waits for it.
func (l *loop) stop() {
	s := l.newSet(nil)
	s.last = true
	l.set.Store(s)
	l.ring()
	<-l.ended
	unix.Close(l.wake)
}

// rest answers what is left in a socket that the loop no longer polls. r is for
// what it answers.
func (l *loop) rest(s *socket, r *ring) {
	b := newBatch(r)
	for b.drain(s) {
	}
	b.tally.tell(maxTally)
}

func (l *loop) run() {
	runtime.LockOSThread()
	defer close(l.ended)
	tally := &l.batch.tally
	defer func() { tally.tell(maxTally) }()
	var set *pollSet
	busy := false
	for {
		if s := l.set.Load(); s != set {
			set = s
			l.batch.endRelays(set.last)
			tally.tell(maxTally) // who waits for taken may want the counts
			l.batch.changed = true
			close(set.taken)
			if set.last {
				return
			}
		}
		if l.batch.changed {
			l.batch.changed = false
			l.fds = append(l.fds[:0], set.fds...)
			for _, o := range l.batch.relays {
				l.fds = append(l.fds, unix.PollFd{Fd: int32(o.r.FD()), Events: unix.POLLIN})
			}
		}
		next := l.next()
		if busy && len(set.sockets) == 1 && next.IsZero() {
			busy = l.hold(set.sockets[0])
			if busy {
				tally.tellDue(time.Now())
			} else {
				tally.tell(tellIdle)
				busy = tally.length > 0
			}
			continue
		}
		n, errno := l.wait(busy, next)
		if errno == unix.EINTR {
			runtime.Gosched()
			continue
		}
		if errno != 0 {
			n = 0
		}
		if n == 0 {
			l.batch.serveRelays(func(int) bool { return false })
			tally.tell(tellIdle)
			busy = tally.length > 0
			continue
		}
		if l.fds[0].Revents != 0 {
			var buf [8]byte
			_, _ = unix.Read(l.wake, buf[:])
		}
		for i, s := range set.sockets {
			if l.fds[i+1].Revents != 0 {
				l.batch.drain(s)
				busy = true
			}
		}
		if len(l.batch.relays) > 0 {
			behind := l.fds[1+len(set.sockets):]
			l.batch.serveRelays(func(i int) bool { return i < len(behind) && behind[i].Revents != 0 })
			busy = true
		}
		tally.tellDue(time.Now())
	}
}

// hold waits in its thread for a packet of the only socket, for a while, and answers what
// came: one system call less for each packet than to poll and to receive. It says whether
// something came. A new set of sockets is seen after it.
func (l *loop) hold(s *socket) bool {
	n, errno := l.batch.recvmmsg(s.fd, unix.MSG_WAITFORONE)
	if errno == unix.EINTR {
		runtime.Gosched()
		return true
	}
	if n == 0 {
		return false
	}
	l.batch.answer(s, n)
	return true
}

// next returns when a relay has something to do, or the zero Time.
func (l *loop) next() time.Time {
	var first time.Time
	for _, o := range l.batch.relays {
		if next := o.r.Next(); first.IsZero() || !next.IsZero() && next.Before(first) {
			first = next
		}
	}
	return first
}

// wait waits until something is ready, or a relay has something to do. A busy loop waits
// in its thread, for a while.
func (l *loop) wait(busy bool, next time.Time) (int, unix.Errno) {
	fds := uintptr(unsafe.Pointer(&l.fds[0]))
	limit := time.Duration(-1)
	if !next.IsZero() {
		limit = max(time.Until(next), 0)
	}
	if !busy && limit < 0 {
		n, _, errno := unix.Syscall6(unix.SYS_PPOLL, fds, uintptr(len(l.fds)), 0, 0, 0, 0)
		return int(n), errno
	}
	if busy && (limit < 0 || limit > hold) {
		limit = hold
	}
	timeout := unix.NsecToTimespec(int64(limit))
	if !busy {
		n, _, errno := unix.Syscall6(unix.SYS_PPOLL, fds, uintptr(len(l.fds)), uintptr(unsafe.Pointer(&timeout)), 0, 0, 0)
		return int(n), errno
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, fds, uintptr(len(l.fds)), uintptr(unsafe.Pointer(&timeout)), 0, 0, 0)
	return int(n), errno
}

func zone(name string) uint32 {
	if name == "" {
		return 0
	}
	if i, err := net.InterfaceByName(name); err == nil {
		return uint32(i.Index)
	}
	n, _ := strconv.ParseUint(name, 10, 32)
	return uint32(n)
}

func zoneName(id uint32) string {
	if i, err := net.InterfaceByIndex(int(id)); err == nil {
		return i.Name
	}
	return strconv.FormatUint(uint64(id), 10)
}
