package snapshot

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/resolverd/resolverd/cache"
)

// A file is the magic, then chunks: the length of the content, its CRC-32C, the content,
// which is whole records. The last chunk is empty. All numbers are little-endian.
const (
	magic = "resolverd cache 1\n"
	// chunkSize is about how much a chunk holds, maxChunk the most that is read.
	chunkSize = 256 << 10
	maxChunk  = chunkSize + 128<<10
	// recordSize is what a record has before its octets of variable length.
	recordSize = 2 + 2 + 2 + 8 + 8
)

// Bits of a record's first octet.
const (
	answersBit = 1 << iota
	noStaleBit
	hotBit
	rareBit
)

var (
	// ErrForeign is returned for a file that is no snapshot, or one of another version.
	ErrForeign = errors.New("not a cache snapshot of this version")
	// ErrDamaged is returned for a file that ends too early or fails its checksum. What
	// stands before the damage was good.
	ErrDamaged = errors.New("damaged")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// write writes the records that each yields.
func write(w io.Writer, each func(func(cache.Record) bool)) (n int, err error) {
	if _, err := io.WriteString(w, magic); err != nil {
		return 0, err
	}
	chunk := make([]byte, 8, maxChunk)
	flush := func() bool {
		binary.LittleEndian.PutUint32(chunk, uint32(len(chunk)-8))
		binary.LittleEndian.PutUint32(chunk[4:], crc32.Checksum(chunk[8:], castagnoli))
		_, err = w.Write(chunk)
		chunk = chunk[:8]
		return err == nil
	}
	each(func(r cache.Record) bool {
		chunk = appendRecord(chunk, r)
		n++
		return len(chunk) < chunkSize || flush()
	})
	if err == nil && len(chunk) > 8 {
		flush()
	}
	if err == nil {
		flush() // the empty one
	}
	return n, err
}

func appendRecord(b []byte, r cache.Record) []byte {
	var bits byte
	for i, set := range [...]bool{r.Answers, r.NoStale, r.Hot, len(r.EDE) > 0 || r.Tag != ""} {
		if set {
			bits |= 1 << i
		}
	}
	b = append(b, bits, byte(r.Kind))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(r.Key)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(r.Packet)))
	b = binary.LittleEndian.AppendUint64(b, uint64(r.Stored.UnixNano()))
	b = binary.LittleEndian.AppendUint64(b, uint64(r.Life))
	if bits&rareBit != 0 {
		b = append(b, byte(len(r.EDE)))
		for _, e := range r.EDE {
			b = binary.LittleEndian.AppendUint16(b, e.Code)
			b = append(append(b, byte(len(e.Text))), e.Text...)
		}
		tag := r.Tag[:min(len(r.Tag), 255)]
		b = append(append(b, byte(len(tag))), tag...)
	}
	return append(append(b, r.Key...), r.Packet...)
}

// read calls f with each record of a file, until f says no. Its slices are valid until f
// returns.
func read(in io.Reader, f func(cache.Record) bool) error {
	r := bufio.NewReaderSize(in, 64<<10)
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(r, head); err != nil || string(head) != magic {
		return ErrForeign
	}
	var chunk []byte
	for {
		var frame [8]byte
		if _, err := io.ReadFull(r, frame[:]); err != nil {
			return fmt.Errorf("%w: it ends too early", ErrDamaged)
		}
		n := binary.LittleEndian.Uint32(frame[:])
		if n > maxChunk {
			return fmt.Errorf("%w: a chunk of %d octets", ErrDamaged, n)
		}
		if int(n) > cap(chunk) {
			chunk = make([]byte, n)
		}
		chunk = chunk[:n]
		if _, err := io.ReadFull(r, chunk); err != nil {
			return fmt.Errorf("%w: it ends too early", ErrDamaged)
		}
		if crc32.Checksum(chunk, castagnoli) != binary.LittleEndian.Uint32(frame[4:]) {
			return fmt.Errorf("%w: a checksum is wrong", ErrDamaged)
		}
		if n == 0 {
			return nil
		}
		for b := chunk; len(b) > 0; {
			var rec cache.Record
			var ok bool
			if rec, b, ok = cutRecord(b); !ok {
				return fmt.Errorf("%w: a record is cut", ErrDamaged)
			}
			if !f(rec) {
				return nil
			}
		}
	}
}

// cutRecord takes a record from the front of b.
func cutRecord(b []byte) (r cache.Record, rest []byte, ok bool) {
	if len(b) < recordSize {
		return r, nil, false
	}
	bits := b[0]
	r.Kind = cache.Kind(b[1])
	r.Answers, r.NoStale, r.Hot = bits&answersBit != 0, bits&noStaleBit != 0, bits&hotBit != 0
	key, packet := int(binary.LittleEndian.Uint16(b[2:])), int(binary.LittleEndian.Uint16(b[4:]))
	r.Stored = time.Unix(0, int64(binary.LittleEndian.Uint64(b[6:])))
	r.Life = time.Duration(binary.LittleEndian.Uint64(b[14:]))
	b = b[recordSize:]
	if bits&rareBit != 0 {
		if b, ok = cutRare(b, &r); !ok {
			return r, nil, false
		}
	}
	if len(b) < key+packet {
		return r, nil, false
	}
	r.Key, r.Packet = b[:key:key], b[key:key+packet:key+packet]
	return r, b[key+packet:], true
}

func cutRare(b []byte, r *cache.Record) (rest []byte, ok bool) {
	text := func(before int) (string, bool) {
		if len(b) <= before || len(b) < before+1+int(b[before]) {
			return "", false
		}
		s := string(b[before+1 : before+1+int(b[before])])
		return s, true
	}
	if len(b) == 0 {
		return nil, false
	}
	n := int(b[0])
	b = b[1:]
	for range n {
		s, ok := text(2)
		if !ok {
			return nil, false
		}
		r.EDE = append(r.EDE, cache.EDE{Code: binary.LittleEndian.Uint16(b), Text: s})
		b = b[3+len(s):]
	}
	if r.Tag, ok = text(0); !ok {
		return nil, false
	}
	return b[1+len(r.Tag):], true
}
