package forward

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	engine "github.com/resolverd/resolverd/forward"
)

// relaying says how far replies may leave as the packets they came as.
type relaying uint8

const (
	relayNone    relaying = iota // some plugin above must see the message
	relayNoError                 // one above takes a packet for NOERROR
	relayAll
)

// passive are the plugins that neither look at the message written nor change it.
var passive = []string{"errors", "horizon", "specialuse", "registry", "consul", "forward"}

// relayingOf audits the chain of a block: a plugin that is not known to be indifferent
// gets messages to see. CoreDNS's prometheus counts the RCODE of messages, and calls a
// packet NOERROR.
func relayingOf(config *dnsserver.Config, stanzas int) relaying {
	if listenersTransport(config) != engine.Plain {
		return relayNone
	}
	handlers := config.Handlers()
	if len(config.Plugin) != len(handlers)+stanzas-1 {
		return relayNone // one whose name is no directive
	}
	r := relayAll
	for _, h := range handlers {
		switch {
		case h.Name() == "prometheus":
			r = relayNoError
		case !slices.Contains(passive, h.Name()):
			return relayNone
		}
	}
	return r
}

const (
	// querySize is room for any plain query, replySize for any reply over UDP that we ask
	// for.
	querySize = 512
	replySize = 4 << 10
)

var packets = sync.Pool{New: func() any { return new([querySize + replySize]byte) }}

// relay answers a plain query over UDP with the upstream's packet. It says false where
// it did nothing and the query must go as a message.
func (f *Forward) relay(ctx context.Context, w dns.ResponseWriter, r *dns.Msg, state *request.Request) (done bool, code int, err error) {
	if f.relaying == relayNone || len(f.taps) > 0 || state.Proto() != "udp" {
		return false, 0, nil
	}
	buf := packets.Get().(*[querySize + replySize]byte)
	defer packets.Put(buf)
	wire, ok := appendQuery(buf[:0:querySize], r)
	if !ok {
		return false, 0, nil
	}
	resp, err := f.pool.ExchangeWire(ctx, engine.WireQuery{Wire: wire, Refuse: f.loops}, buf[querySize:querySize])
	if errors.Is(err, engine.ErrNotPlain) {
		return false, 0, nil
	}
	if resp.From.Addr.IsValid() {
		metadata.SetValueFunc(ctx, "forward/upstream", resp.From.Label)
	}
	if err != nil {
		code, err = f.fail(ctx, w, r, state.Name(), err)
		return true, code, err
	}
	rcode, answers := int(resp.Wire[3]&0x0f), binary.BigEndian.Uint16(resp.Wire[6:])
	if f.passOn(rcode, answers == 0) {
		code, err = plugin.NextOrFailure(f.Name(), f.Next, ctx, w, r)
		return true, code, err
	}
	if done, code, err := f.chained(ctx, w, r, state.Name(), rcode, answers == 0); done {
		return true, code, err
	}
	if rcode == dns.RcodeServerFailure || rcode != dns.RcodeSuccess && f.relaying != relayAll || len(resp.Wire) > state.Size() {
		m := new(dns.Msg)
		if err := m.Unpack(resp.Wire); err != nil {
			code, err = f.fail(ctx, w, r, state.Name(), &engine.Failure{Upstream: resp.From, Attempts: 1, Err: err})
			return true, code, err
		}
		return true, dns.RcodeSuccess, f.write(w, r, m, resp.From)
	}
	_, err = w.Write(resp.Wire)
	return true, dns.RcodeSuccess, err
}

// appendQuery appends r in wire form if it is plain: one question, and no more than an
// OPT without options.
func appendQuery(b []byte, r *dns.Msg) ([]byte, bool) {
	if r.Opcode != dns.OpcodeQuery || r.Response || r.Truncated || len(r.Question) != 1 ||
		len(r.Answer)+len(r.Ns) > 0 || len(r.Extra) > 1 {
		return nil, false
	}
	var opt *dns.OPT
	if len(r.Extra) == 1 {
		var ok bool
		if opt, ok = r.Extra[0].(*dns.OPT); !ok || len(opt.Option) > 0 || opt.Version() != 0 {
			return nil, false
		}
	}
	const header = 12
	if cap(b)-len(b) < header {
		return nil, false
	}
	var bits2, bits3 byte
	if r.RecursionDesired {
		bits2 |= 0x01
	}
	if r.AuthenticatedData {
		bits3 |= 0x20
	}
	if r.CheckingDisabled {
		bits3 |= 0x10
	}
	b = append(b, byte(r.Id>>8), byte(r.Id), bits2, bits3, 0, 1, 0, 0, 0, 0, 0, byte(len(r.Extra)))
	q := r.Question[0]
	end, err := dns.PackDomainName(q.Name, b[:cap(b)], len(b), nil, false)
	if err != nil {
		return nil, false
	}
	b = binary.BigEndian.AppendUint16(b[:end], q.Qtype)
	b = binary.BigEndian.AppendUint16(b, q.Qclass)
	if opt == nil {
		return b, true
	}
	size, flags := opt.UDPSize(), byte(0)
	if opt.Do() {
		flags = 0x80
	}
	return append(b, 0, 0, byte(dns.TypeOPT), byte(size>>8), byte(size), 0, 0, flags, 0, 0, 0), true
}
