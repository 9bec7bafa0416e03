package forward

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

// verdict is what a packet from an upstream's address is to the query that waits.
type verdict uint8

const (
	// accept: the reply to this query.
	accept verdict = iota
	// foreign: not the reply; waiting goes on (CVE-2023-28452).
	foreign
	// doubtful: the right id, yet the packet cannot be read. It may be a guess of a forger
	// or a fault of the upstream: a stream transport, which no forger off the path can
	// enter, tells.
	doubtful
	// otherCase: the reply, but for the case of letters in its question. Over UDP that is
	// doubtful, on a stream it is accepted.
	otherCase
)

// match compares the header and the question of a packet with the query sent, whose
// question ends at end. It does not look at the id. An empty question section is accepted
// with an RCODE other than NOERROR only, as some servers answer what they cannot read.
func match(wire, sent []byte, end int) verdict {
	if len(wire) < headerSize || wire[2]&bitQR == 0 || (wire[2]^sent[2])&maskOpcode != 0 {
		return foreign
	}
	switch binary.BigEndian.Uint16(wire[4:]) {
	case 0:
		if wire[3]&maskRcode == dns.RcodeSuccess {
			return foreign
		}
		return accept
	case 1:
	default:
		return foreign
	}
	if len(wire) < end {
		// The right id on what is too short for any question of ours: cut on its way.
		if _, ok := skipName(wire, headerSize, len(wire)); !ok || len(wire) == headerSize {
			return doubtful
		}
		return foreign
	}
	exact, alike := sameQuestion(wire, sent, end)
	switch {
	case exact:
		return accept
	case alike:
		return otherCase
	}
	return foreign
}

// inspect is the whole judgement on a packet that a query waits for under id: [match],
// and for what matches [scan]. The layout is valid with accept only.
func inspect(wire, sent []byte, end int, id uint16) (layout, verdict) {
	if len(wire) < headerSize || binary.BigEndian.Uint16(wire) != id {
		return layout{}, foreign
	}
	v := match(wire, sent, end)
	if v != accept && v != otherCase {
		return layout{}, v
	}
	l, ok := scan(wire)
	if !ok {
		return layout{}, doubtful
	}
	return l, v
}
