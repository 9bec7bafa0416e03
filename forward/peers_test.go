package forward

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"
)

// handlerFunc gives the reply to a query, or nil for none.
type handlerFunc func(r *dns.Msg) *dns.Msg

func answerA(r *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(r)
	m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: r.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(192, 0, 2, 1)}}
	return m
}

// cut gives an empty reply with TC.
func cut(r *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(r)
	m.Truncated = true
	return m
}

// rawUDP is an upstream over UDP alone that sends whatever packets f makes of a query.
func rawUDP(t *testing.T, f func(query []byte) [][]byte) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 65535)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			for _, p := range f(append([]byte(nil), buf[:n]...)) {
				_, _ = pc.WriteTo(p, from)
			}
		}
	}()
	t.Cleanup(func() { pc.Close(); <-done })
	return pc.LocalAddr().(*net.UDPAddr).AddrPort()
}

// server is an upstream that answers with f over UDP and with g over TCP on one port; a
// nil function closes that protocol.
type server struct {
	addr netip.AddrPort
	// conns counts the TCP connections that were accepted.
	conns atomic.Int32
}

type countingListener struct {
	net.Listener
	n *atomic.Int32
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.n.Add(1)
	}
	return c, err
}

func serve(t *testing.T, f, g handlerFunc, cfg *tls.Config, change func(*dns.Server)) *server {
	t.Helper()
	s := &server{}
	var (
		pc net.PacketConn
		l  net.Listener
	)
	for try := 0; ; try++ {
		var err error
		if pc, err = net.ListenPacket("udp", "127.0.0.2:0"); err != nil {
			t.Fatal(err)
		}
		s.addr = pc.LocalAddr().(*net.UDPAddr).AddrPort()
		if l, err = net.Listen("tcp", s.addr.String()); err == nil {
			break
		}
		pc.Close()
		if try == 20 {
			t.Fatal(err)
		}
	}
	run := func(d *dns.Server, f handlerFunc) {
		d.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
			if m := f(r); m != nil {
				_ = w.WriteMsg(m)
			}
		})
		if change != nil {
			change(d)
		}
		ready, done := make(chan struct{}), make(chan struct{})
		d.NotifyStartedFunc = func() { close(ready) }
		go func() {
			defer close(done)
			_ = d.ActivateAndServe()
		}()
		<-ready
		t.Cleanup(func() { _ = d.Shutdown(); <-done })
	}
	if f != nil {
		run(&dns.Server{PacketConn: pc, UDPSize: 65535}, f)
	} else {
		pc.Close()
	}
	if g == nil {
		l.Close()
		return s
	}
	l = countingListener{l, &s.conns}
	if cfg != nil {
		l = tls.NewListener(l, cfg)
	}
	run(&dns.Server{Listener: l}, g)
	return s
}

// authority makes certificates for tests.
type authority struct {
	server *tls.Config // for dns.example and 127.0.0.2
	client *tls.Config // trusts the server
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "dns.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"dns.example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 2)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return authority{
		server: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		client: &tls.Config{RootCAs: pool},
	}
}

// serveHTTPS is a DoH upstream; fault, if not nil, answers in its place and says that
// it did.
func serveHTTPS(t *testing.T, a authority, f handlerFunc, fault func(http.ResponseWriter) bool) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fault != nil && fault(w) {
			return
		}
		var wire []byte
		var err error
		if r.Method == http.MethodGet {
			wire, err = base64.RawURLEncoding.DecodeString(r.URL.Query().Get("dns"))
		} else {
			wire, err = io.ReadAll(r.Body)
		}
		m := new(dns.Msg)
		if err != nil || r.URL.Path != "/dns-query" || m.Unpack(wire) != nil || m.Id != 0 || r.ProtoMajor != 2 {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		out, _ := f(m).Pack()
		w.Header().Set("Content-Type", "application/dns-message")
		_, _ = w.Write(out)
	}))
	s.Listener.Close()
	s.Listener = l
	s.TLS = a.server.Clone()
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// serveQUIC is a DoQ upstream. Its connections are counted.
func serveQUIC(t *testing.T, a authority, f handlerFunc) (netip.AddrPort, *atomic.Int32, func()) {
	t.Helper()
	pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)})
	if err != nil {
		t.Fatal(err)
	}
	cfg := a.server.Clone()
	cfg.NextProtos = []string{"doq"}
	tr := &quic.Transport{Conn: pc}
	l, err := tr.Listen(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	var (
		conns   atomic.Int32
		current atomic.Pointer[quic.Conn]
	)
	done := make(chan struct{})
	stream := func(s *quic.Stream) {
		defer s.Close()
		in, err := io.ReadAll(s) // up to FIN
		if err != nil || len(in) < 2 || int(binary.BigEndian.Uint16(in)) != len(in)-2 {
			return
		}
		m := new(dns.Msg)
		if m.Unpack(in[2:]) != nil || m.Id != 0 {
			return
		}
		r := f(m)
		if r == nil {
			return
		}
		wire, _ := r.Pack()
		_, _ = s.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...))
	}
	go func() {
		defer close(done)
		for {
			c, err := l.Accept(context.Background())
			if err != nil {
				return
			}
			conns.Add(1)
			current.Store(c)
			go func() {
				for {
					s, err := c.AcceptStream(context.Background())
					if err != nil {
						return
					}
					go stream(s)
				}
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		tr.Close()
		pc.Close()
		<-done
	})
	return pc.LocalAddr().(*net.UDPAddr).AddrPort(), &conns, func() { _ = current.Load().CloseWithError(0, "") }
}
