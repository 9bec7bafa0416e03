package forward

import (
	"errors"
	"fmt"

	"github.com/miekg/dns"
)

// DefaultEDNSSize is the largest UDP reply that is asked for: what passes unfragmented
// nearly everywhere (the figure of DNS Flag Day 2020).
const DefaultEDNSSize = 1232

// ErrQuery is returned for a query that cannot be packed.
var ErrQuery = errors.New("forward: invalid query")

// ErrUnsupported is returned for a query that cannot be forwarded as one question and
// one reply: another opcode than QUERY, a zone transfer, a meta type, not one question.
var ErrUnsupported = errors.New("forward: query not supported")

// ErrNotPlain is returned by [Pool.ExchangeWire] for a query that [Pool.Exchange] may take.
var ErrNotPlain = errors.New("forward: query is not plain")

// forwardable says whether the query is one question that has one reply.
func forwardable(m *dns.Msg) bool {
	if m.Opcode != dns.OpcodeQuery || m.Response || len(m.Question) != 1 {
		return false
	}
	return singleReply(m.Question[0].Qtype)
}

// singleReply says whether a question of this type has one reply of one message.
func singleReply(qtype uint16) bool {
	switch qtype {
	case dns.TypeAXFR, dns.TypeIXFR, dns.TypeTKEY, dns.TypeTSIG, dns.TypeOPT:
		return false
	}
	return true
}

// outgoing makes the query for an upstream of the client's: RD, AD, CD and DO as the
// client set them (RFC 4035, section 3.2.2; RFC 6840, section 5.7), EDNS of our own
// with the size given (RFC 6891, section 6.2.6: an OPT speaks of one hop), and the
// client's options but for those between client and us. A query that is signed (TSIG)
// goes as it is, else the signature would be broken. The message's id is 0.
func outgoing(req *dns.Msg, size uint16) (*dns.Msg, error) {
	if !forwardable(req) {
		return nil, ErrUnsupported
	}
	out := new(dns.Msg)
	out.MsgHdr = dns.MsgHdr{
		Opcode:            dns.OpcodeQuery,
		RecursionDesired:  req.RecursionDesired,
		AuthenticatedData: req.AuthenticatedData,
		CheckingDisabled:  req.CheckingDisabled,
	}
	out.Question = []dns.Question{req.Question[0]}
	if req.IsTsig() != nil {
		out.Extra = req.Extra
		return out, nil
	}
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	opt.SetUDPSize(size)
	if asked := req.IsEdns0(); asked != nil {
		opt.SetDo(asked.Do())
		for _, o := range asked.Option {
			if !hopByHop(o.Option()) {
				opt.Option = append(opt.Option, o)
			}
		}
	}
	out.Extra = []dns.RR{opt}
	return out, nil
}

// hopByHop says whether an EDNS option speaks of the connection between two hosts and
// must not go further: cookies (RFC 7873), keepalive (RFC 7828), padding (RFC 7830).
// Others go on, client subnet among them if the client (or a rewrite) put it there.
func hopByHop(code uint16) bool {
	switch code {
	case dns.EDNS0COOKIE, dns.EDNS0TCPKEEPALIVE, dns.EDNS0PADDING:
		return true
	}
	return false
}

// knowsNoEDNS says whether the message is how a server before RFC 6891 refuses an OPT.
func (l *layout) knowsNoEDNS() bool {
	return l.opts == 0 && (l.rcode == dns.RcodeFormatError || l.rcode == dns.RcodeNotImplemented)
}

// finish makes the upstream's reply the response to the client's query req: its id and
// question, AD only for a client that asked by AD or DO (RFC 6840, section 5.8), no OPT
// where there was none in the query, and no options of the hop to the upstream. reply
// is changed. The OPT comes last, which some clients need to find what is before it.
func finish(req, reply *dns.Msg) {
	reply.Id = req.Id
	reply.Response = true
	reply.Zero = false // must be zero in all messages (RFC 1035, section 4.1.1)
	reply.Question = []dns.Question{req.Question[0]}
	asked := req.IsEdns0()
	if !req.AuthenticatedData && (asked == nil || !asked.Do()) {
		reply.AuthenticatedData = false
	}
	kept := reply.Extra[:0:0]
	var first *dns.OPT
	for _, rr := range reply.Extra {
		if opt, ok := rr.(*dns.OPT); !ok {
			kept = append(kept, rr)
		} else if first == nil {
			first = opt
		}
	}
	if first != nil && asked != nil {
		first.Option = endToEnd(first.Option, asked)
		kept = append(kept, first)
	}
	reply.Extra = kept
	if reply.Rcode > 0x0f {
		// An extended RCODE (BADVERS, BADCOOKIE) speaks of our EDNS, not of the client's.
		reply.Rcode = dns.RcodeServerFailure
	}
}

// endToEnd returns the options of a reply that concern the client.
func endToEnd(options []dns.EDNS0, asked *dns.OPT) []dns.EDNS0 {
	var kept []dns.EDNS0
	for _, o := range options {
		code := o.Option()
		if hopByHop(code) || code == dns.EDNS0SUBNET && !has(asked, code) {
			continue
		}
		kept = append(kept, o)
	}
	return kept
}

func has(opt *dns.OPT, code uint16) bool {
	for _, o := range opt.Option {
		if o.Option() == code {
			return true
		}
	}
	return false
}

// pack returns the wire form with room for the two octets of length before it.
func pack(m *dns.Msg) ([]byte, error) {
	wire, err := m.Pack()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrQuery, err)
	}
	if len(wire) > dns.MaxMsgSize {
		return nil, fmt.Errorf("%w: %d octets", ErrQuery, len(wire))
	}
	return wire, nil
}
