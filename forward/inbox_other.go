//go:build !linux

package forward

import "net"

// inbox reads packets from a connected socket, one at a time.
type inbox struct {
	mem []byte
	n   int
}

// newInbox returns an inbox for packets of up to size octets.
func newInbox(size int) *inbox { return &inbox{mem: make([]byte, size)} }

func (in *inbox) free() {}

// receive waits for a packet and returns how many came.
func (in *inbox) receive(c *net.UDPConn) (int, error) {
	n, err := c.Read(in.mem)
	in.n = n
	if err != nil {
		return 0, err
	}
	return 1, nil
}

// packet returns the packet, valid until the next receive.
func (in *inbox) packet(int) []byte { return in.mem[:in.n] }
