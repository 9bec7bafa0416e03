package corefile

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/transport"
	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/internal/answer"
)

// remoteSize is the largest UDP response to a client that is not on this host, where the
// block has no `bufsize` of its own: the octets that pass unfragmented nearly everywhere,
// and a bound on what a spoofed query can have sent to its victim.
const remoteSize = 1232

// entrance stands before all plugins of every block. It refuses queries whose form no
// plugin should have to think about, bounds UDP responses to other hosts, gives a
// SERVFAIL its reason where the plugin that made it gave none, and closes connections
// beyond maxStreams. Of a client that went
// away nothing is logged: that is nobody's fault, and would let anybody fill the log.
type entrance struct {
	next   plugin.Handler
	config *dnsserver.Config
	sized  bool // the block has `bufsize`
}

func newEntrance(c *dnsserver.Config) plugin.Plugin {
	return func(next plugin.Handler) plugin.Handler {
		return &entrance{next: next, config: c, sized: c.Handler("bufsize") != nil}
	}
}

// Name implements plugin.Handler.
func (e *entrance) Name() string { return blockDirective }

// ServeDNS implements plugin.Handler.
func (e *entrance) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	rcode, err := e.serve(ctx, w, r)
	if a := w.RemoteAddr(); a == nil || a.Network() != "tcp" || !serves(ctx, transport.DNS, transport.TLS) {
		return rcode, err
	} else if client, bad := netip.ParseAddrPort(a.String()); bad != nil || streams.stays(client, time.Now()) {
		return rcode, err
	}
	if !plugin.ClientWrite(rcode) {
		_ = w.WriteMsg(new(dns.Msg).SetRcode(r, rcode)) // the client may be gone
	}
	_ = w.Close()
	return dns.RcodeSuccess, err
}

func (e *entrance) serve(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	if !wellFormed(r) {
		return dns.RcodeFormatError, nil
	}
	opt := r.IsEdns0()
	if opt != nil && !e.sized && opt.UDPSize() > remoteSize && serves(ctx, transport.DNS) && remote(w) {
		opt.SetUDPSize(remoteSize)
	}
	rcode, err := plugin.NextOrFailure(e.Name(), e.next, ctx, &doorman{ResponseWriter: w, query: r}, r)
	if rcode == dns.RcodeServerFailure && opt != nil {
		// dnsserver would write a bare one.
		_ = w.WriteMsg(answer.Servfail(r, dns.ExtendedErrorCodeOther, unexplained)) // the client may be gone
		return dns.RcodeSuccess, err
	}
	return rcode, err
}

// unexplained is said of a SERVFAIL whose plugin gave no reason. The error itself may
// hold what is not the client's to know.
const unexplained = "no answer could be made; the server's log may say why"

// wellFormed says whether the OPT record is as RFC 6891, section 6.1 demands: one at
// most, owned by the root, in ADDITIONAL; and whether type and class are there at all,
// which the library takes for zeros where a packet ends after the name.
func wellFormed(r *dns.Msg) bool {
	opts := 0
	for _, rr := range r.Extra {
		if h := rr.Header(); h.Rrtype == dns.TypeOPT {
			if opts++; opts > 1 || h.Name != "." {
				return false
			}
		}
	}
	for _, rrs := range [][]dns.RR{r.Answer, r.Ns} {
		for _, rr := range rrs {
			if rr.Header().Rrtype == dns.TypeOPT {
				return false
			}
		}
	}
	q := r.Question[0] // dnsserver lets nothing else in
	return q.Qtype != dns.TypeNone && q.Qclass != 0
}

// serves says whether the query came to a listener of one of the transports. What the
// address tells is not enough: DoQ's is of UDP, though it streams, and DoH's of TCP.
func serves(ctx context.Context, transports ...string) bool {
	s, ok := ctx.Value(dnsserver.Key{}).(*dnsserver.Server)
	if !ok {
		return false
	}
	scheme, _, _ := strings.Cut(s.Addr, "://")
	return slices.Contains(transports, scheme)
}

// remote says whether the client is another host, over UDP.
func remote(w dns.ResponseWriter) bool {
	client := w.RemoteAddr()
	if client == nil || client.Network() != "udp" {
		return false
	}
	from := hostOf(client)
	return !from.IsLoopback() && from != hostOf(w.LocalAddr())
}

func hostOf(a net.Addr) netip.Addr {
	if a == nil {
		return netip.Addr{}
	}
	p, _ := netip.ParseAddrPort(a.String())
	return p.Addr().Unmap().WithZone("")
}

// doorman is the writer that the plugins get.
type doorman struct {
	dns.ResponseWriter
	query *dns.Msg
}

// WriteMsg implements dns.ResponseWriter.
func (d *doorman) WriteMsg(m *dns.Msg) error {
	if m != nil && m.Rcode == dns.RcodeServerFailure && !explained(m) {
		answer.Explain(d.query, m, dns.ExtendedErrorCodeOther, unexplained)
	}
	return gone(d.ResponseWriter.WriteMsg(m))
}

// Write implements dns.ResponseWriter.
func (d *doorman) Write(p []byte) (int, error) {
	n, err := d.ResponseWriter.Write(p)
	return n, gone(err)
}

// gone returns nil for the errors of a connection whose other end went away or does not
// read.
func gone(err error) error {
	if _, ok := err.(*net.OpError); ok { //nolint:errorlint // what the socket itself says, unwrapped
		return nil
	}
	return err
}

// explained says whether m carries an Extended DNS Error already.
func explained(m *dns.Msg) bool {
	opt := m.IsEdns0()
	if opt == nil {
		return false
	}
	for _, o := range opt.Option {
		if o.Option() == dns.EDNS0EDE {
			return true
		}
	}
	return false
}
