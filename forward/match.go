package forward

import (
	"encoding/binary"
	"strings"

	"github.com/miekg/dns"
)

// verdict is what a packet from an upstream's address is to the query that waits.
type verdict uint8

const (
	// accept: the reply to this query.
	accept verdict = iota
	// foreign: not the reply; waiting goes on (CVE-2023-28452).
	foreign
	// doubtful: the right id, yet the packet cannot be read, or its question differs in
	// case from the one sent. It may be a guess of a forger or a fault of the upstream:
	// a stream transport, which no forger off the path can enter, tells.
	doubtful
)

const headerSize = 12

// inspect unpacks wire and compares it with the query that was sent under id. The
// message is nil unless the verdict is accept, or doubtful by case alone. The header is
// looked at before anything is unpacked. An empty question section is accepted with an
// RCODE other than NOERROR only, as some servers answer what they cannot read.
func inspect(wire []byte, sent *dns.Msg, id uint16) (*dns.Msg, verdict) {
	if len(wire) < headerSize || binary.BigEndian.Uint16(wire) != id {
		return nil, foreign
	}
	const (
		qr         = 0x80
		opcodeMask = 0x78
	)
	if wire[2]&qr == 0 || int(wire[2]&opcodeMask)>>3 != sent.Opcode {
		return nil, foreign
	}
	questions := binary.BigEndian.Uint16(wire[4:])
	rcode := wire[3] & 0x0f
	if questions > 1 || questions == 0 && rcode == dns.RcodeSuccess {
		return nil, foreign
	}
	m := new(dns.Msg)
	if err := m.Unpack(wire); err != nil || !complete(wire, m) {
		return nil, doubtful
	}
	if len(m.Question) == 0 {
		return m, accept
	}
	got, want := m.Question[0], sent.Question[0]
	switch {
	case got.Qtype != want.Qtype || got.Qclass != want.Qclass:
		return nil, foreign
	case got.Name == want.Name:
		return m, accept
	case strings.EqualFold(got.Name, want.Name):
		return m, doubtful
	}
	return nil, foreign
}

// complete says whether m, unpacked from wire, has as many records as the header says:
// the library takes a message that ends between two records for a whole one.
func complete(wire []byte, m *dns.Msg) bool {
	for i, n := range [...]int{len(m.Question), len(m.Answer), len(m.Ns), len(m.Extra)} {
		if int(binary.BigEndian.Uint16(wire[4+2*i:])) != n {
			return false
		}
	}
	return true
}
