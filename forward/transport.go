package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// request is one query on its way to one upstream.
type request struct {
	wire     []byte        // as sent, id 0; not changed by a transport
	question int           // end of its question section
	read     time.Duration // how long the reply is waited for once there is a connection
	dial     time.Time     // until when a connection may be made
	end      time.Time     // of everything
	unpack   bool          // the reply is wanted as a message too
	into     []byte        // memory for the reply, which may be too small or nil
}

// deadline is until when a reply to a query that goes out now is waited for.
func (r *request) deadline() time.Time {
	if t := time.Now().Add(r.read); t.Before(r.end) {
		return t
	}
	return r.end
}

// reply is what came back.
type reply struct {
	wire   []byte // begins where request.into does, if that was large enough
	layout layout // of wire
	msg    *dns.Msg
	local  netip.AddrPort // our end, where known
}

// truncated says whether the reply has TC set.
func (r *reply) truncated() bool { return r.wire[2]&bitTC != 0 }

// take makes g of a packet that may be the reply to r under id, and returns accept if it
// is. stream says that it came over a connection. The packet's memory is not kept.
func (r *request) take(g *reply, packet []byte, id uint16, stream bool) verdict {
	l, v := inspect(packet, r.wire, r.question, id)
	switch {
	case v == otherCase && !stream:
		return doubtful
	case v != accept && v != otherCase:
		return v
	}
	if r.unpack {
		m := new(dns.Msg)
		if err := m.Unpack(packet[:l.end]); err != nil {
			return doubtful
		}
		g.msg = m
	}
	g.layout, g.wire = l, append(r.into[:0], packet[:l.end]...)
	return accept
}

// transport speaks one protocol to one upstream. It is safe for concurrent use. After
// close it still serves what comes, but keeps no connection.
type transport interface {
	// exchange fills g, of which without an error all is valid, with one local alone.
	exchange(ctx context.Context, r *request, g *reply) error
	close()
}

// errDoubtful asks for the same query over a stream.
var errDoubtful = errors.New("forward: reply cannot be trusted over UDP")

// errMalformed is a reply on a stream that cannot be read.
var errMalformed = errors.New("forward: malformed reply")

// maxForeign bounds the packets that are looked at while a reply is waited for.
const maxForeign = 256

// dialer opens sockets from the source address set, if any.
type dialer struct {
	addr   netip.AddrPort
	source netip.Addr
}

func (d dialer) udp(ctx context.Context) (net.Conn, error) {
	nd := net.Dialer{Control: wantUnreachable}
	if d.source.IsValid() {
		nd.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(d.source, 0))
	}
	c, err := nd.DialContext(ctx, "udp", d.addr.String())
	if err != nil {
		return nil, fmt.Errorf("forward: dial %s: %w", d.addr, err)
	}
	return c, nil
}

func (d dialer) tcp(ctx context.Context, deadline time.Time) (net.Conn, error) {
	nd := net.Dialer{Deadline: deadline}
	if d.source.IsValid() {
		nd.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(d.source, 0))
	}
	c, err := nd.DialContext(ctx, "tcp", d.addr.String())
	if err != nil {
		return nil, fmt.Errorf("forward: dial %s: %w", d.addr, err)
	}
	return c, nil
}

func localOf(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort()
	case *net.TCPAddr:
		return a.AddrPort()
	}
	return netip.AddrPort{}
}
