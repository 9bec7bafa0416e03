package fastpath

import (
	"context"
	"encoding/binary"
	"net"
	"slices"

	"github.com/coredns/coredns/plugin/dnstap"
	"github.com/coredns/coredns/plugin/dnstap/msg"
	"github.com/coredns/coredns/request"
	tapmsg "github.com/dnstap/golang-dnstap"
	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/internal/answer"
)

// tap tells one stock dnstap of what was repeated, as that tells of what it sees itself:
// a CLIENT_QUERY and a CLIENT_RESPONSE. It is an answer.Watcher.
type tap struct{ *dnstap.Dnstap }

// tapped is what the chain below a tap saw of a response's queries.
type tapped struct {
	size  uint16 // announced by the OPT, after plugins above bounded it
	local net.Addr
}

// watch has repetitions of the response in the verdict told to the taps.
func (ts taps) watch(v *answer.Verdict, seen tapped) {
	for _, t := range ts {
		v.Watch(answer.Watch{To: t, Note: &seen, Size: 32, Packets: t.IncludeRawMessage || t.ExtraFormat != ""})
	}
}

// Repeated implements answer.Watcher.
func (t *tap) Repeated(note any, r *answer.Repetition) {
	seen := note.(*tapped)
	client := net.UDPAddrFromAddrPort(r.Client)
	packet := asSeen(r.Query, seen.size)
	asked, answered := new(tapmsg.Message), new(tapmsg.Message)
	for _, m := range []*tapmsg.Message{asked, answered} {
		msg.SetQueryTime(m, r.At)
		_ = msg.SetQueryAddress(m, client) // fails for foreign types only
	}
	msg.SetResponseTime(answered, r.At.Add(r.Took))
	if t.IncludeRawMessage {
		asked.QueryMessage, answered.ResponseMessage = packet, slices.Clone(r.Response)
	}
	msg.SetType(asked, tapmsg.Message_CLIENT_QUERY)
	msg.SetType(answered, tapmsg.Message_CLIENT_RESPONSE)
	if t.ExtraFormat == "" {
		t.TapMessage(asked)
		t.TapMessage(answered)
		return
	}
	query := new(dns.Msg)
	if query.Unpack(packet) != nil {
		return // it was unpacked before: cannot be
	}
	state := request.Request{W: &ends{client: client, local: seen.local}, Req: query}
	t.TapMessageWithMetadata(context.Background(), asked, state)
	t.TapMessageWithMetadata(context.Background(), answered, state)
}

// Flush implements answer.Watcher: dnstap has a queue of its own.
func (*tap) Flush() {}

// asSeen returns a copy of a plain query with another size in its OPT, if it has one,
// which is then the last of the packet.
func asSeen(query []byte, size uint16) []byte {
	p := slices.Clone(query)
	if len(p) > 12 && p[11] == 1 {
		putSize(p, size)
	}
	return p
}

// putSize puts the size into the OPT at the end of a plain query.
func putSize(query []byte, size uint16) {
	const fromEnd = 8 // size, extended RCODE and flags, RDLENGTH
	binary.BigEndian.PutUint16(query[len(query)-fromEnd:], size)
}

// ends is a dns.ResponseWriter for those who only ask it for its addresses.
type ends struct {
	dns.ResponseWriter
	client, local net.Addr
}

// RemoteAddr implements dns.ResponseWriter.
func (e *ends) RemoteAddr() net.Addr { return e.client }

// LocalAddr implements dns.ResponseWriter.
func (e *ends) LocalAddr() net.Addr { return e.local }
