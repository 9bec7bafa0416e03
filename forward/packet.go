package forward

import "sync"

// smallPacket holds nearly every message. The large size is for the few that need it, or
// thousands of queries under way would hold half a gigabyte.
const (
	smallPacket = 4 << 10
	largePacket = 64 << 10
)

var (
	smallPackets = sync.Pool{New: func() any { b := make([]byte, smallPacket); return &b }}
	largePackets = sync.Pool{New: func() any { b := make([]byte, largePacket); return &b }}
)

// borrow returns a buffer of at least n octets, n not over 64 KB, to be given back.
func borrow(n int) *[]byte {
	if n <= smallPacket {
		return smallPackets.Get().(*[]byte)
	}
	return largePackets.Get().(*[]byte)
}

func giveBack(b *[]byte) {
	if len(*b) == smallPacket {
		smallPackets.Put(b)
		return
	}
	largePackets.Put(b)
}
