package relay

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/resolverd/resolverd/registry"
)

// A frame is
//
//	octet  0     version that a reader must know to understand it
//	octet  1     type
//	octets 2-3   zero, ignored
//	octets 4-7   length of the payload
//	octets 8-11  CRC-32C over octets 0 to 7 and the payload
//	the payload
//
// Numbers are big-endian. What a later version adds stands behind what is known, in the
// payload or in a record, and is skipped; so are frames of an unknown type. Only a change
// that an older reader would get wrong raises a frame's version.
const (
	headLen = 12
	// MaxPayload is the longest payload that is read or written, in octets.
	MaxPayload = 64 << 20
	// growBy is what is allocated before the octets that it is for have come.
	growBy = 256 << 10
)

// Version is the version of frames that this build writes and the newest that it reads.
const Version = registry.FormatVersion

// Type says what a frame is.
type Type uint8

// The types of frame.
const (
	typeHello      Type = 1  // follower: who it is and what it has
	typeWelcome    Type = 2  // hub: who it is and what follows
	typeWholeBegin Type = 3  // everything there is begins
	typeWholePart  Type = 4  // some of it
	typeWholeEnd   Type = 5  // that was all
	typeRecords    Type = 6  // what one or more revisions changed
	typeTick       Type = 7  // hub: nothing new
	typeAck        Type = 8  // follower: the revision that its view shows
	typeBye        Type = 9  // hub: it stops in good order
	typeFile       Type = 10 // head of the file on disk
)

// Errors of reading frames.
var (
	// ErrDamaged is returned for a frame of which the checksum or the content is wrong.
	ErrDamaged = errors.New("relay: damaged frame")
	// ErrNewer is returned for a frame that only a later version understands.
	ErrNewer = errors.New("relay: frame of a newer version")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendFrame appends a frame of which body appends the payload.
func appendFrame(b []byte, t Type, body func([]byte) []byte) []byte {
	at := len(b)
	b = append(b, Version, byte(t), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	b = body(b)
	head, payload := b[at:at+headLen], b[at+headLen:]
	binary.BigEndian.PutUint32(head[4:], uint32(len(payload)))
	binary.BigEndian.PutUint32(head[8:], checksum(head, payload))
	return b
}

func checksum(head, payload []byte) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli, head[:8]), castagnoli, payload)
}

// reader reads frames. It is not for concurrent use.
type reader struct {
	br    *bufio.Reader
	limit uint32 // longest payload
	buf   []byte
	// good counts the octets of the frames that were read without fault.
	good int64
}

func newReader(r io.Reader, limit uint32) *reader {
	return &reader{br: bufio.NewReaderSize(r, 64<<10), limit: min(limit, MaxPayload)}
}

// next returns the next frame of a known type. The payload is valid until the next call.
// At the end between two frames the error is io.EOF, within one io.ErrUnexpectedEOF.
func (r *reader) next() (Type, []byte, error) {
	for {
		var head [headLen]byte
		if _, err := io.ReadFull(r.br, head[:]); err != nil {
			return 0, nil, err
		}
		n := binary.BigEndian.Uint32(head[4:])
		if n > r.limit {
			return 0, nil, fmt.Errorf("%w: %d octets, at most %d", ErrDamaged, n, r.limit)
		}
		if err := r.fill(int(n)); err != nil {
			return 0, nil, err
		}
		if binary.BigEndian.Uint32(head[8:]) != checksum(head[:], r.buf) {
			return 0, nil, fmt.Errorf("%w: checksum", ErrDamaged)
		}
		t := Type(head[1])
		if t < typeHello || t > typeFile {
			r.good += headLen + int64(n)
			continue
		}
		if head[0] > Version {
			return 0, nil, fmt.Errorf("%w: %d, this one knows %d", ErrNewer, head[0], Version)
		}
		r.good += headLen + int64(n)
		return t, r.buf, nil
	}
}

// fill reads n octets into the buffer, which grows with what really comes.
func (r *reader) fill(n int) error {
	if cap(r.buf) > 4*growBy && n < growBy {
		r.buf = nil // do not hold on to the room of a large one
	}
	r.buf = r.buf[:0]
	for len(r.buf) < n {
		step := min(n-len(r.buf), growBy)
		at := len(r.buf)
		r.buf = append(r.buf, make([]byte, step)...)
		if _, err := io.ReadFull(r.br, r.buf[at:]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// more reports whether a further frame has begun to come in.
func (r *reader) more() bool { return r.br.Buffered() >= headLen }
