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
	msg  *dns.Msg      // as sent, id 0; not changed by a transport
	wire []byte        // msg packed; not changed by a transport
	read time.Duration // how long the reply is waited for once there is a connection
	dial time.Time     // until when a connection may be made
	end  time.Time     // of everything
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
	msg   *dns.Msg
	local netip.AddrPort // our end, where known
}

// transport speaks one protocol to one upstream. It is safe for concurrent use. After
// close it still serves what comes, but keeps no connection.
type transport interface {
	exchange(ctx context.Context, r *request) (reply, error)
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

// interrupt makes a blocked read or write of c end when ctx does. The function returned
// must be called when the exchange is over; it says whether c is still as it was.
func interrupt(ctx context.Context, c net.Conn) (stop func() bool) {
	if ctx.Done() == nil {
		return func() bool { return true }
	}
	return context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
}
