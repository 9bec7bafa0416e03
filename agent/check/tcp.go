package check

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/resolverd/resolverd/registry"
)

// tcpProbe connects, shakes hands where TLS is asked for, and hangs up.
type tcpProbe struct {
	target string
	tls    *tls.Config // nil for plain TCP
}

func newTCP(d *registry.CheckDefinition) *tcpProbe {
	p := &tcpProbe{target: d.Target}
	if d.TLS {
		host, _, _ := net.SplitHostPort(d.Target)
		p.tls = tlsConfig(d, host)
	}
	return p
}

func (p *tcpProbe) probe(ctx context.Context) result {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.target)
	if err != nil {
		return critical("%s", why(ctx, err))
	}
	defer conn.Close()
	if p.tls == nil {
		return passing("TCP connect %s: Success", p.target)
	}
	if err := tls.Client(conn, p.tls).HandshakeContext(ctx); err != nil {
		return critical("TLS handshake with %s: %s", p.target, why(ctx, err))
	}
	return passing("TLS handshake with %s: Success", p.target)
}
