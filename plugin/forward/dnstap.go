package forward

import (
	"context"
	"net"
	"time"

	"github.com/coredns/coredns/plugin/dnstap"
	"github.com/coredns/coredns/plugin/dnstap/msg"
	"github.com/coredns/coredns/request"
	tapmsg "github.com/dnstap/golang-dnstap"

	"github.com/miekg/dns"

	engine "github.com/resolverd/resolverd/forward"
)

// tap tells dnstap of one attempt: FORWARDER_QUERY, and FORWARDER_RESPONSE if there was
// one. The query address is our end of the connection.
func tap(ctx context.Context, taps []*dnstap.Dnstap, state request.Request, a engine.Attempt) {
	var upstream net.Addr = net.UDPAddrFromAddrPort(a.To.Addr)
	if a.Proto == "tcp" {
		upstream = net.TCPAddrFromAddrPort(a.To.Addr)
	}
	var own net.Addr
	if a.Local.IsValid() {
		own = net.UDPAddrFromAddrPort(a.Local)
		if a.Proto == "tcp" {
			own = net.TCPAddrFromAddrPort(a.Local)
		}
	}
	for _, t := range taps {
		q := new(tapmsg.Message)
		msg.SetQueryTime(q, a.Began)
		address(q, own, upstream)
		if t.IncludeRawMessage {
			q.QueryMessage = packed(a.Sent)
		}
		msg.SetType(q, tapmsg.Message_FORWARDER_QUERY)
		t.TapMessageWithMetadata(ctx, q, state)
		if a.Reply == nil {
			continue
		}
		r := new(tapmsg.Message)
		if t.IncludeRawMessage {
			r.ResponseMessage = packed(a.Reply)
		}
		msg.SetQueryTime(r, a.Began)
		msg.SetResponseTime(r, time.Now())
		address(r, own, upstream)
		msg.SetType(r, tapmsg.Message_FORWARDER_RESPONSE)
		t.TapMessageWithMetadata(ctx, r, state)
	}
}

func address(m *tapmsg.Message, own, upstream net.Addr) {
	if own != nil {
		_ = msg.SetQueryAddress(m, own) // fails for foreign families only
	}
	_ = msg.SetResponseAddress(m, upstream)
}

func packed(m *dns.Msg) []byte {
	wire, err := m.Pack()
	if err != nil {
		return nil
	}
	return wire
}
