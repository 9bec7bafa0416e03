package forward

import (
	"crypto/rand"
	"encoding/binary"
)

// ids draws message ids from the system's generator, many at a time: that costs more to
// call than to run. It is not safe for concurrent use.
type ids struct {
	left  []byte // drawn and not used yet
	drawn [512]byte
}

func (i *ids) next() uint16 {
	if len(i.left) < 2 {
		_, _ = rand.Read(i.drawn[:]) // never fails: see crypto/rand
		i.left = i.drawn[:]
	}
	id := binary.BigEndian.Uint16(i.left)
	i.left = i.left[2:]
	return id
}
