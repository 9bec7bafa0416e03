package relay

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/resolverd/resolverd/registry"
)

// hello is a follower's first frame.
type hello struct {
	version  uint64 // newest version that it reads
	store    uint64 // identity of the store that its view shows, 0 for none
	revision uint64 // what its view shows, 0 for nothing
	name     string // who it is, for people
}

// welcome is the hub's answer.
type welcome struct {
	version  uint64
	store    uint64
	revision uint64 // the newest
	node     string
}

// begin opens everything there is.
type begin struct {
	store    uint64
	revision uint64
	serial   uint64 // on disk only
	count    uint64 // records that follow
}

// tick says that there is nothing new.
type tick struct {
	revision uint64
	at       time.Time
}

func appendUint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

func appendString[S ~string | ~[]byte](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendHello(b []byte, h hello) []byte {
	return appendFrame(b, typeHello, func(b []byte) []byte {
		b = appendUint(b, h.version)
		b = appendUint(b, h.store)
		b = appendUint(b, h.revision)
		return appendString(b, h.name)
	})
}

func appendWelcome(b []byte, w welcome) []byte {
	return appendFrame(b, typeWelcome, func(b []byte) []byte {
		b = appendUint(b, w.version)
		b = appendUint(b, w.store)
		b = appendUint(b, w.revision)
		return appendString(b, w.node)
	})
}

func appendBegin(b []byte, w begin) []byte {
	return appendFrame(b, typeWholeBegin, func(b []byte) []byte {
		b = appendUint(b, w.store)
		b = appendUint(b, w.revision)
		b = appendUint(b, w.serial)
		return appendUint(b, w.count)
	})
}

func appendNumber(b []byte, t Type, v uint64) []byte {
	return appendFrame(b, t, func(b []byte) []byte { return appendUint(b, v) })
}

func appendTick(b []byte, t tick) []byte {
	return appendFrame(b, typeTick, func(b []byte) []byte {
		return appendUint(appendUint(b, t.revision), uint64(t.at.UnixNano()))
	})
}

// appendRecords writes a batch that is not whole; previous is the revision that the view
// must have for it.
func appendRecords(b []byte, previous uint64, batch registry.Batch) []byte {
	return appendFrame(b, typeRecords, func(b []byte) []byte {
		b = appendUint(b, previous)
		b = appendUint(b, batch.Revision)
		b = appendUint(b, batch.Serial)
		b = appendUint(b, uint64(len(batch.Records)))
		for _, r := range batch.Records {
			b = appendRecord(b, r)
		}
		return b
	})
}

// appendPart writes some of everything, as many records as fit into about size octets,
// at least one, and returns the rest.
func appendPart(b []byte, records []registry.Record, size int) ([]byte, []registry.Record) {
	n, sum := 0, 0
	for n < len(records) && (n == 0 || sum < size) {
		sum += recordLen(records[n])
		n++
	}
	b = appendFrame(b, typeWholePart, func(b []byte) []byte {
		b = appendUint(b, uint64(n))
		for _, r := range records[:n] {
			b = appendRecord(b, r)
		}
		return b
	})
	return b, records[n:]
}

func recordLen(r registry.Record) int {
	return 32 + len(r.Key.Kind) + len(r.Key.Node) + len(r.Key.ID) + len(r.Value)
}

const flagDeleted = 1

// appendRecord writes a record behind its own length, so that a reader finds the next
// one whatever was added to this.
func appendRecord(b []byte, r registry.Record) []byte {
	flags := uint64(0)
	if r.Deleted() {
		flags |= flagDeleted
	}
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	b = appendString(b, r.Key.Kind)
	b = appendString(b, r.Key.Node)
	b = appendString(b, r.Key.ID)
	b = appendUint(b, flags)
	b = appendUint(b, r.Created)
	b = appendUint(b, r.Modified)
	b = appendString(b, r.Value)
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

// minRecord is the least that a record takes on the wire: nothing is allocated for more
// records than could be there.
const minRecord = 4 + 7

// parser takes a payload apart. After the first fault all that it returns is zero.
type parser struct {
	b   []byte
	bad bool
}

func (p *parser) uint() uint64 {
	v, n := binary.Uvarint(p.b)
	if n <= 0 {
		p.b, p.bad = nil, true
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *parser) bytes() []byte {
	n := p.uint()
	if n > uint64(len(p.b)) {
		p.b, p.bad = nil, true
		return nil
	}
	v := p.b[:n]
	p.b = p.b[n:]
	return v
}

func (p *parser) string() string { return string(p.bytes()) }

func (p *parser) err(what string) error {
	if p.bad {
		return fmt.Errorf("%w: %s", ErrDamaged, what)
	}
	return nil
}

func (p *parser) record() registry.Record {
	if len(p.b) < 4 {
		p.b, p.bad = nil, true
		return registry.Record{}
	}
	n := uint64(binary.BigEndian.Uint32(p.b))
	if p.b = p.b[4:]; n > uint64(len(p.b)) {
		p.b, p.bad = nil, true
		return registry.Record{}
	}
	in := parser{b: p.b[:n]}
	p.b = p.b[n:]
	r := registry.Record{Key: registry.Key{Kind: kindOf(in.bytes()), Node: in.string(), ID: in.string()}}
	flags := in.uint()
	r.Created, r.Modified = in.uint(), in.uint()
	value := in.bytes()
	if flags&flagDeleted == 0 {
		r.Value = append(make([]byte, 0, len(value)), value...)
	}
	if in.bad {
		p.b, p.bad = nil, true
	}
	return r
}

// kindOf saves the allocation for the kinds that are known.
func kindOf(b []byte) registry.Kind {
	switch registry.Kind(b) {
	case registry.KindNode:
		return registry.KindNode
	case registry.KindInstance:
		return registry.KindInstance
	case registry.KindCheck:
		return registry.KindCheck
	case registry.KindAlive:
		return registry.KindAlive
	}
	return registry.Kind(b)
}

func (p *parser) records(into []registry.Record) []registry.Record {
	n := p.uint()
	if n > uint64(len(p.b))/minRecord {
		p.b, p.bad = nil, true
		return into
	}
	if into == nil {
		into = make([]registry.Record, 0, n)
	}
	for ; n > 0 && !p.bad; n-- {
		into = append(into, p.record())
	}
	return into
}

func parseHello(b []byte) (hello, error) {
	p := parser{b: b}
	h := hello{version: p.uint(), store: p.uint(), revision: p.uint(), name: p.string()}
	return h, p.err("hello")
}

func parseWelcome(b []byte) (welcome, error) {
	p := parser{b: b}
	w := welcome{version: p.uint(), store: p.uint(), revision: p.uint(), node: p.string()}
	return w, p.err("welcome")
}

func parseBegin(b []byte) (begin, error) {
	p := parser{b: b}
	w := begin{store: p.uint(), revision: p.uint(), serial: p.uint(), count: p.uint()}
	return w, p.err("beginning of a whole")
}

func parseTick(b []byte) (tick, error) {
	p := parser{b: b}
	t := tick{revision: p.uint(), at: time.Unix(0, int64(p.uint()))}
	return t, p.err("tick")
}

func parseNumber(b []byte) (uint64, error) {
	p := parser{b: b}
	v := p.uint()
	return v, p.err("number")
}

func parseRecords(b []byte) (previous uint64, batch registry.Batch, err error) {
	p := parser{b: b}
	previous = p.uint()
	batch.Revision, batch.Serial = p.uint(), p.uint()
	batch.Records = p.records(nil)
	return previous, batch, p.err("records")
}

func parsePart(b []byte, into []registry.Record) ([]registry.Record, error) {
	p := parser{b: b}
	into = p.records(into)
	return into, p.err("part of a whole")
}
