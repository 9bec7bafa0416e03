package api_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/resolverd/resolverd/api"
)

// TestServe: a stop ends blocking queries at once and leaves nothing behind.
func TestServe(t *testing.T) {
	d := newDirect(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- api.Serve(ctx, l, d.h, quiet) }()
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: tr}
	url := "http://" + l.Addr().String() + "/v1/catalog/nodes"
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	blocked := make(chan int, 1)
	go func() {
		resp, err := c.Get(fmt.Sprintf("%s?index=%s&wait=10m", url, resp.Header.Get("X-Consul-Index")))
		if err != nil {
			blocked <- 0
			return
		}
		resp.Body.Close()
		blocked <- resp.StatusCode
	}()
	for !strings.Contains(d.do(t.Context(), "GET", "/v1/resolverd/status").Body.String(), `"blocking_queries":1`) {
		runtime.Gosched()
	}
	began := time.Now()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if code := <-blocked; code != http.StatusServiceUnavailable || time.Since(began) > 3*time.Second {
		t.Fatalf("blocking query: %d after %v", code, time.Since(began))
	}
}

// TestServeBounds: a header that has no end, and a body that is announced too large.
func TestServeBounds(t *testing.T) {
	d := newDirect(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- api.Serve(ctx, l, d.h, quiet) }()
	for request, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 128<<10) + "\r\n\r\n":                                          " 431 ",
		"PUT /v1/agent/service/register HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n" + strings.Repeat(" ", 1<<20+1): " 413 ",
		"GET /v1/status/leader HTTP/1.1\r\n\r\n":                            " 400 ", // no Host
		"GET /v1/status/leader HTTP/1.0\r\n\r\n":                            " 403 ",
		"GET /v1/status/leader HTTP/1.1\r\nHost: evil.example\r\n\r\n":      " 403 ",
		"GET http://localhost/v1/status/leader HTTP/1.1\r\nHost: a\r\n\r\n": " 200 ", // RFC 9112, 3.2.2: the target's host counts
	} {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		go io.WriteString(conn, request)
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.Contains(line, want) {
			t.Errorf("%.60q: %q %v, want %s", request, line, err, want)
		}
		conn.Close()
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	reg := prometheus.NewRegistry()
	d := newDirect(t, func(c *api.Config) { c.Metrics = reg })
	d.do(t.Context(), "GET", "/v1/status/leader")
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	if n, err := testutil.GatherAndCount(reg, "resolverd_api_requests_total"); err != nil || n != 1 {
		t.Fatal(n, err)
	}
}

// TestServeSlowBody: a body that does not arrive holds no connection, whoever announced it.
func TestServeSlowBody(t *testing.T) {
	d := newDirect(t, func(c *api.Config) { c.BodyTime = 100 * time.Millisecond })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- api.Serve(ctx, l, d.h, quiet) }()
	for _, head := range []string{
		"PUT /v1/agent/service/register HTTP/1.1\r\nHost: localhost",
		"PUT /v1/agent/service/register HTTP/1.1\r\nHost: evil.example", // 403
		"PUT /v1/agent/nothing HTTP/1.1\r\nHost: localhost",             // 404
		"GET /v1/status/leader HTTP/1.1\r\nHost: localhost",
	} {
		for _, announced := range []string{"Content-Length: 1000", "Transfer-Encoding: chunked"} {
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, head+"\r\n"+announced+"\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			if _, err := io.Copy(io.Discard, conn); err != nil { // to its end
				t.Errorf("%.50s with %s: %v", head, announced, err)
			}
			conn.Close()
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
