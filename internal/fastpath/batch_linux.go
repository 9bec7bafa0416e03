package fastpath

import (
	"net"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batchSize is how many packets are received and sent at a time.
	batchSize = 64
	// maxTurns bounds how many batches of one socket are taken before the others' turn.
	maxTurns = 16
)

// message is the kernel's struct mmsghdr.
type message struct {
	unix.Msghdr
	n uint32
}

// batch is the memory of one thread that answers.
type batch struct {
	in      [batchSize]message
	out     [batchSize]message
	inVec   [batchSize]unix.Iovec
	outVec  [batchSize]unix.Iovec
	peers   [batchSize]sockaddr
	inBuf   [batchSize][maxQuery]byte
	outBuf  [batchSize][maxReply]byte
	key     [maxKey]byte
	query   query
	ring    *ring // of what watchers want to know
	asked   Query
	back    Return
	relays  []relayed
	looped  bool // it belongs to a loop, which waits for relays
	changed bool // relays were added or ended since the loop looked
	replies int  // of relays, in out
	via     *socket
	tally   tally
	dropped uint64 // replies that no socket took
}

func newBatch(r *ring) *batch {
	b := &batch{tally: newTally(), ring: r}
	for i := range b.in {
		b.inVec[i].Base = &b.inBuf[i][0]
		b.inVec[i].SetLen(maxQuery)
		b.in[i].Name = (*byte)(unsafe.Pointer(&b.peers[i].raw))
		b.in[i].Iov = &b.inVec[i]
		b.in[i].SetIovlen(1)
		b.outVec[i].Base = &b.outBuf[i][0]
		b.out[i].Iov = &b.outVec[i]
		b.out[i].SetIovlen(1)
	}
	return b
}

// receive fills the batch without waiting, and returns how many packets came.
func (b *batch) receive(fd int) int {
	for {
		n, errno := b.recvmmsg(fd, unix.MSG_DONTWAIT)
		if errno != unix.EINTR {
			return n
		}
	}
}

// recvmmsg is the system call, hidden from the scheduler; 0 packets with an error.
func (b *batch) recvmmsg(fd int, how uintptr) (int, unix.Errno) {
	for i := range b.in {
		b.in[i].Namelen = unix.SizeofSockaddrInet6
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.in)), batchSize, how, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// send sends the first n replies.
func (b *batch) send(fd, n int) {
	for i := 0; i < n; {
		done, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.out[i])), uintptr(n-i), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			i += int(done)
		case unix.EINTR:
		case unix.EAGAIN:
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
			if n, err := unix.Poll(fds, sendWait); n == 0 || err != nil && err != unix.EINTR {
				b.dropped++
				i++
			}
		default:
			b.dropped++ // this client cannot be reached; the others can
			i++
		}
	}
}

// drain answers what waits in the socket, and says whether it left something.
func (b *batch) drain(s *socket) bool {
	for range maxTurns {
		n := b.receive(s.fd)
		if n == 0 {
			return false
		}
		b.answer(s, n)
		if n < batchSize {
			// What came meanwhile makes the socket ready again.
			return false
		}
	}
	return true
}

// answer handles the n packets received.
func (b *batch) answer(s *socket, n int) {
	g := s.plane.gen.Load()
	if g == nil {
		return
	}
	begin := time.Now()
	now := clock(begin)
	relay, took := b.relay(g), uint64(0)
	replies, withheld := 0, 0
	for i := range n {
		p := b.inBuf[i][:b.in[i].n]
		if len(p) < headerLen {
			continue
		}
		plain := b.query.parse(p)
		var class uint32
		if plain {
			class = g.class(s, &b.peers[i])
			key := appendKey(b.key[:0], g.ID, class, &b.query)
			if e := g.Table.get(key, &b.query, now); e != nil {
				size, whole := e.give(b.outBuf[replies][:], p, &b.query, &b.peers[i], begin)
				if size == 0 {
					withheld++
					b.tally.hit(e)
					continue
				}
				b.outVec[replies].SetLen(size)
				b.out[replies].Name = (*byte)(unsafe.Pointer(&b.peers[i].raw))
				b.out[replies].Namelen = b.in[i].Namelen
				if e.watches != nil && whole {
					b.ring.note(e.watches, p, b.outBuf[replies][:size], &b.peers[i], now, ofBatch)
				}
				replies++
				b.tally.hit(e)
				continue
			}
			if relay != nil {
				n, taken := b.take(relay, g, s, i, p, key, class, begin, b.outBuf[replies][:])
				if n > 0 {
					b.outVec[replies].SetLen(n)
					b.out[replies].Name = (*byte)(unsafe.Pointer(&b.peers[i].raw))
					b.out[replies].Namelen = b.in[i].Namelen
					replies++
					continue
				}
				if taken {
					took++
					continue
				}
			}
		}
		g.miss(newClient(s, p, &b.peers[i], b.in[i].Namelen, plain, class))
	}
	if replies+withheld > 0 {
		g.hits.Add(uint64(replies + withheld)) // before a client can know
	}
	if replies > 0 {
		b.send(s.fd, replies)
		b.tally.took = time.Since(begin)
		b.ring.publish(int64(b.tally.took))
	}
	if took > 0 {
		g.relayed.Add(took)
		relay.Send(b)
	}
}

// onHost is the bit of a class that tells the clients of this host from others: the
// registry gives them larger replies.
const onHost = 1 << 31

// class returns the class of the client.
func (g *Generation) class(s *socket, peer *sockaddr) uint32 {
	var c uint32
	if peer.raw.Family == unix.AF_INET {
		a := (*unix.RawSockaddrInet4)(unsafe.Pointer(&peer.raw)).Addr
		if a[0] == 127 || string(a[:]) == string(s.host[12:]) {
			c = onHost
		}
		if g.Class != nil {
			c |= g.Class(netip.AddrFrom4(a))
		}
		return c
	}
	if peer.raw.Addr == s.host || peer.raw.Addr == [16]byte{15: 1} {
		c = onHost
	}
	if g.Class != nil {
		c |= g.Class(netip.AddrFrom16(peer.raw.Addr).Unmap())
	}
	return c
}

// newClient copies a query for the chain.
func newClient(s *socket, p []byte, peer *sockaddr, namelen uint32, plain bool, class uint32) *client {
	c := &client{socket: s, to: sockaddr{raw: peer.raw, len: namelen}, query: append([]byte(nil), p...), plain: plain, class: class}
	from := peer.client()
	c.udp = net.UDPAddr{IP: from.Addr().AsSlice(), Port: int(from.Port()), Zone: from.Addr().Zone()}
	return c
}
