package fastpath

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
)

// maxOrder bounds the addresses that are put in order for each query.
const maxOrder = 32

// order is how the addresses of a reply come in random order by weight: for each query
// anew, so that nothing is owed to chance beyond it.
type order struct {
	at, stride uint16 // of the first address in the packet, and from one to the next
	size       uint16 // of an address: 4 or 16
	weights    []uint32
}

// orderOf returns the order of a packed reply whose ANSWER are addresses of these
// weights, each above 0; or nil where it is anything else.
func orderOf(p []byte, weights []uint32) *order {
	n := len(weights)
	if n < 2 || n > maxOrder || int(binary.BigEndian.Uint16(p[6:])) != n {
		return nil
	}
	start := skip(p, headerLen) + 4
	name := skip(p, start)
	if name < 0 || name+10 > len(p) {
		return nil
	}
	size := binary.BigEndian.Uint16(p[name+8:])
	o := &order{at: uint16(name + 10), stride: uint16(name+10-start) + size, size: size, weights: weights}
	if t := binary.BigEndian.Uint16(p[name:]); !(t == 1 && size == 4) && !(t == 28 && size == 16) {
		return nil
	}
	if start+n*int(o.stride) > len(p) {
		return nil
	}
	// What stands before the addresses must be the same octets each time.
	head := string(p[start : name+10])
	for i := range n {
		from := start + i*int(o.stride)
		if string(p[from:from+len(head)]) != head || weights[i] == 0 {
			return nil
		}
	}
	return o
}

// apply puts the addresses of a copy of the packet in order: each next one is drawn from
// those that are left with a chance in proportion to its weight.
func (o *order) apply(p []byte) {
	var left [maxOrder]uint32
	n := copy(left[:], o.weights)
	var total uint64
	for _, w := range left[:n] {
		total += uint64(w)
	}
	for i := range n - 1 {
		hit, _ := bits.Mul64(rand.Uint64(), total)
		j := i
		for ; j < n-1 && hit >= uint64(left[j]); j++ {
			hit -= uint64(left[j])
		}
		total -= uint64(left[j])
		if i == j {
			continue
		}
		left[j] = left[i]
		a, b := p[int(o.at)+i*int(o.stride):], p[int(o.at)+j*int(o.stride):]
		if o.size == 4 {
			x, y := binary.NativeEndian.Uint32(a), binary.NativeEndian.Uint32(b)
			binary.NativeEndian.PutUint32(a, y)
			binary.NativeEndian.PutUint32(b, x)
			continue
		}
		var t [16]byte
		copy(t[:], a[:16])
		copy(a[:16], b[:16])
		copy(b[:16], t[:])
	}
}
