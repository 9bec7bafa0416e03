package check

import (
	"context"
	"errors"
	"net"
	"os"
)

// udpProbe sends one datagram. An answer is passing, an ICMP error (nobody listens)
// critical. Silence is passing without a payload, since most services keep silent about
// what is no request of theirs, and critical with one, which is there to be answered.
type udpProbe struct {
	target  string
	payload string
}

func (p *udpProbe) probe(ctx context.Context) result {
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", p.target)
	if err != nil {
		return critical("%s", why(ctx, err))
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if t, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(t) // a fresh socket takes it
	}
	if _, err := conn.Write([]byte(p.payload)); err != nil {
		return critical("UDP %s: %v", p.target, err)
	}
	var b [1]byte
	switch _, err := conn.Read(b[:]); {
	case err == nil:
		return passing("UDP %s: answered", p.target)
	case !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, net.ErrClosed):
		return critical("UDP %s: %v", p.target, err)
	case p.payload != "":
		return critical("UDP %s: timed out: no answer to %d octets", p.target, len(p.payload))
	}
	return passing("UDP %s: no answer and no error", p.target)
}
