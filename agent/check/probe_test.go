package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resolverd/resolverd/registry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// find runs a definition once, as the runner would.
func find(t *testing.T, d registry.CheckDefinition, timeout time.Duration) result {
	t.Helper()
	p, err := newProber("n1", &registry.Check{Node: "n1", ID: "c", InstanceID: "i", Definition: &d})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	start := time.Now()
	r := p.probe(ctx)
	if took := time.Since(start); took > timeout+2*time.Second {
		t.Errorf("took %v with a timeout of %v", took, timeout)
	}
	if len(r.output) > MaxOutput {
		t.Errorf("output of %d octets", len(r.output))
	}
	return r
}

func expect(t *testing.T, r result, want registry.Status, part string) {
	t.Helper()
	if r.status != want || !strings.Contains(r.output, part) {
		t.Errorf("found %s %q, want %s with %q", r.status, r.output, want, part)
	}
}

// quiet is for servers that are meant to see broken handshakes.
var quiet = log.New(io.Discard, "", 0)

const brief = 300 * time.Millisecond

func TestHTTP(t *testing.T) {
	release := make(chan struct{})
	mux := http.NewServeMux()
	for _, code := range []int{200, 204, 302, 400, 429, 503} {
		mux.HandleFunc(fmt.Sprintf("/%d", code), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
	}
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-release:
		}
	})
	mux.HandleFunc("/drip", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, "begun")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
		case <-release:
		}
	})
	mux.HandleFunc("/huge", func(w http.ResponseWriter, _ *http.Request) {
		for range 4096 {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/headers", func(w http.ResponseWriter, _ *http.Request) {
		for i := range 100 {
			w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("x", 1000))
		}
	})
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/there", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/200", http.StatusFound) })
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %s %s close=%t", r.Method, r.Host, r.Header["X-A"], r.UserAgent(), b, r.Close)
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	defer close(release)
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")

	for _, tc := range []struct {
		name, path string
		edit       func(*registry.CheckDefinition)
		want       registry.Status
		part       string
	}{
		{"ok", "/200", nil, registry.Passing, "200 OK"},
		{"no content", "/204", nil, registry.Passing, "204"},
		{"too many requests", "/429", nil, registry.Warning, "429"},
		{"bad request", "/400", nil, registry.Critical, "400"},
		{"unavailable", "/503", nil, registry.Critical, "503"},
		{"redirect to nowhere", "/302", nil, registry.Critical, ""},
		{"redirect", "/there", nil, registry.Passing, "200"},
		{"redirect not followed", "/there", func(d *registry.CheckDefinition) { d.NoRedirects = true }, registry.Critical, "302"},
		{"redirects without end", "/loop", nil, registry.Critical, "redirects"},
		{"hangs", "/hang", nil, registry.Critical, "timed out"},
		{"head in time, body not", "/drip", nil, registry.Passing, "begun"},
		{"huge body", "/huge", nil, registry.Passing, ""},
		{"huge head", "/headers", nil, registry.Critical, "exceeded"},
		{"all fields", "/echo", func(d *registry.CheckDefinition) {
			d.Method, d.Body = "post", "hello"
			d.Header = map[string][]string{"host": {"web.internal"}, "x-a": {"1", "2"}}
		}, registry.Passing, "POST web.internal [1 2] resolverd-check hello close=true"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := registry.CheckDefinition{Kind: registry.CheckHTTP, URL: srv.URL + tc.path}
			if tc.edit != nil {
				tc.edit(&d)
			}
			expect(t, find(t, d, brief*3), tc.want, tc.part)
		})
	}
}

func TestHTTPS(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {}))
	srv.Config.ErrorLog = quiet
	srv.StartTLS()
	defer srv.Close()
	d := registry.CheckDefinition{Kind: registry.CheckHTTP, URL: srv.URL}
	expect(t, find(t, d, time.Second), registry.Critical, "certificate")
	d.TLSSkipVerify = true
	expect(t, find(t, d, time.Second), registry.Passing, "200")
}

func listen(t *testing.T) (net.Listener, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, l.Addr().String()
}

// closed returns an address where nobody listens.
func closed(t *testing.T) string {
	l, addr := listen(t)
	l.Close()
	return addr
}

// reset accepts and answers with a reset.
func reset(t *testing.T) string {
	l, addr := listen(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
	}()
	return addr
}

func TestReset(t *testing.T) {
	addr := reset(t)
	for _, d := range []registry.CheckDefinition{
		{Kind: registry.CheckHTTP, URL: "http://" + addr},
		{Kind: registry.CheckTCP, Target: addr, TLS: true},
		{Kind: registry.CheckGRPC, Target: addr},
	} {
		t.Run(string(d.Kind), func(t *testing.T) { expect(t, find(t, d, time.Second), registry.Critical, "") })
	}
	// A plain tcp check may see the connection or the reset first: it must only end.
	find(t, registry.CheckDefinition{Kind: registry.CheckTCP, Target: addr}, time.Second)
}

func TestTCP(t *testing.T) {
	l, addr := listen(t) // never accepts: the kernel does
	defer l.Close()
	tcp := func(target string) registry.CheckDefinition {
		return registry.CheckDefinition{Kind: registry.CheckTCP, Target: target}
	}
	expect(t, find(t, tcp(addr), time.Second), registry.Passing, addr)
	expect(t, find(t, tcp(closed(t)), time.Second), registry.Critical, "refused")
	d := tcp(addr)
	d.TLS = true
	expect(t, find(t, d, brief), registry.Critical, "timed out")

	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = quiet
	srv.StartTLS()
	defer srv.Close()
	d = tcp(srv.Listener.Addr().String())
	d.TLS = true
	expect(t, find(t, d, time.Second), registry.Critical, "certificate")
	d.TLSSkipVerify = true
	expect(t, find(t, d, time.Second), registry.Passing, "TLS")
}

func TestTLSServerName(t *testing.T) {
	var asked atomic.Value
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = quiet
	srv.TLS = &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		asked.Store(h.ServerName)
		return nil, nil
	}}
	srv.StartTLS()
	defer srv.Close()
	d := registry.CheckDefinition{Kind: registry.CheckTCP, Target: srv.Listener.Addr().String(), TLS: true, TLSServerName: "db.internal", TLSSkipVerify: true}
	expect(t, find(t, d, time.Second), registry.Passing, "")
	if asked.Load() != "db.internal" {
		t.Errorf("asked for %v", asked.Load())
	}
}

func TestUDP(t *testing.T) {
	echo, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := echo.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = echo.WriteTo(b[:n], from)
		}
	}()
	udp := func(target, payload string) registry.CheckDefinition {
		return registry.CheckDefinition{Kind: registry.CheckUDP, Target: target, Body: payload}
	}
	expect(t, find(t, udp(echo.LocalAddr().String(), "ping"), time.Second), registry.Passing, "answered")
	expect(t, find(t, udp(silent.LocalAddr().String(), ""), brief), registry.Passing, "no answer and no error")
	expect(t, find(t, udp(silent.LocalAddr().String(), "ping"), brief), registry.Critical, "timed out")
	expect(t, find(t, udp(closed(t), ""), time.Second), registry.Critical, "refused")
}

func TestGRPC(t *testing.T) {
	serve := func(opts ...grpc.ServerOption) (*health.Server, string) {
		l, addr := listen(t)
		s, h := grpc.NewServer(opts...), health.NewServer()
		healthpb.RegisterHealthServer(s, h)
		go func() { _ = s.Serve(l) }()
		t.Cleanup(s.Stop)
		return h, addr
	}
	h, addr := serve()
	h.SetServingStatus("up", healthpb.HealthCheckResponse_SERVING)
	h.SetServingStatus("down", healthpb.HealthCheckResponse_NOT_SERVING)
	def := func(target string) registry.CheckDefinition {
		return registry.CheckDefinition{Kind: registry.CheckGRPC, Target: target}
	}
	expect(t, find(t, def(addr), time.Second), registry.Passing, "SERVING")
	expect(t, find(t, def(addr+"/up"), time.Second), registry.Passing, "SERVING")
	expect(t, find(t, def(addr+"/down"), time.Second), registry.Critical, "NOT_SERVING")
	expect(t, find(t, def(addr+"/other"), time.Second), registry.Critical, "NotFound")
	expect(t, find(t, def(closed(t)), time.Second), registry.Critical, "refused")
	l, silent := listen(t)
	defer l.Close()
	expect(t, find(t, def(silent), brief), registry.Critical, "timed out")

	srv := httptest.NewTLSServer(http.NotFoundHandler())
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	cert := srv.TLS.Certificates[0]
	srv.Close()
	_, addr = serve(grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
	d := def(addr)
	d.TLS = true
	expect(t, find(t, d, time.Second), registry.Critical, "certificate")
	d.TLSSkipVerify = true
	expect(t, find(t, d, time.Second), registry.Passing, "SERVING")
}

func TestUnknownKind(t *testing.T) {
	if _, err := newProber("n1", &registry.Check{Definition: &registry.CheckDefinition{Kind: "h2ping"}}); err == nil {
		t.Error("no error")
	}
}

func TestClip(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"plain", "plain"},
		{"bad \xff octet", "bad ? octet"},
		{strings.Repeat("x", 5000), strings.Repeat("x", MaxOutput)},
		{strings.Repeat("x", MaxOutput-1) + "\u00fc", strings.Repeat("x", MaxOutput-1) + "?"},
	} {
		if got := clip(tc.in); got != tc.want {
			t.Errorf("%.20q: %d octets, want %d", tc.in, len(got), len(tc.want))
		}
	}
}
