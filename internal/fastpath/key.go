package fastpath

import "encoding/binary"

const (
	keyPrefix = 13
	maxKey    = keyPrefix + maxName
)

// appendKey appends to dst what a reply depends on: listener, client class, flags, the
// announced size to the octet (a reply echoes it, and is cut by it), type, class, name
// in lower case. It sets flagMixed in q where the name was spelt otherwise.
func appendKey(dst []byte, listener uint16, class uint32, q *query) []byte {
	dst = binary.BigEndian.AppendUint16(dst, listener)
	dst = binary.BigEndian.AppendUint32(dst, class)
	dst = append(dst, byte(q.flags&^flagMixed))
	dst = binary.BigEndian.AppendUint16(dst, q.size)
	dst = binary.BigEndian.AppendUint16(dst, q.qtype)
	dst = binary.BigEndian.AppendUint16(dst, q.qclass)
	n := len(dst)
	dst = append(dst, q.name...)
	// A length octet is at most 63, below every letter: the name need not be walked.
	for i, c := range dst[n:] {
		if c-'A' < 26 {
			dst[n+i] = c + 'a' - 'A'
			q.flags |= flagMixed
		}
	}
	return dst
}
