package api_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/resolverd/resolverd/api"
)

func TestHostHeader(t *testing.T) {
	b := newBench(t)
	for host, code := range map[string]int{
		"localhost": 200, "localhost:8553": 200, "LOCALHOST.:1": 200, "x.localhost": 200,
		"127.0.0.1:8553": 200, "127.9.9.9": 200, "[::1]:8553": 200, "n1": 200, "N1:8553": 200, "10.0.0.1": 200,
		"evil.example": 403, "evil.example:8553": 403, "10.0.0.2": 403, "localhost.evil.example": 403, "127.0.0.1.evil.example": 403,
	} {
		if a := b.ask(http.MethodGet, "/v1/status/leader", "", "Host: "+host); a.code != code {
			t.Errorf("%s: %d %s", host, a.code, a.body)
		} else if code == 403 && !strings.Contains(a.body, "localhost") {
			t.Errorf("%s: no hint: %s", host, a.body)
		}
	}
}

func TestOrigin(t *testing.T) {
	b := newBench(t)
	a := b.ask(http.MethodPut, "/v1/agent/service/register", `{"Name":"x"}`, "Origin: http://evil.example")
	if a.code != 403 {
		t.Fatalf("a foreign page wrote: %d", a.code)
	}
	if a := b.ask(http.MethodPut, "/v1/agent/service/register", `{"Name":"x"}`, "Origin: "+b.srv.URL); a.code != 200 {
		t.Fatalf("our own page did not: %d %s", a.code, a.body)
	}
}

func TestToken(t *testing.T) {
	var log bytes.Buffer
	b := newBench(t, func(c *api.Config) { c.Token, c.Log = "s3cr3t", slog.New(slog.NewTextHandler(&log, nil)) })
	for _, c := range []struct {
		path, header string
		code         int
	}{
		{"/v1/agent/self", "", 403},
		{"/v1/resolverd/metrics", "", 403},
		{"/v1/none", "", 403},
		{"/v1/agent/self", "X-Consul-Token: wrong", 403},
		{"/v1/agent/self", "X-Consul-Token: s3cr3t", 200},
		{"/v1/agent/self", "Authorization: Bearer s3cr3t", 200},
		{"/v1/agent/self", "Authorization: bearer s3cr3t", 200},
		{"/v1/agent/self", "Authorization: Basic s3cr3t", 403},
		{"/v1/agent/self?token=s3cr3t", "", 200},
		{"/v1/agent/self?token=wrong", "", 403},
	} {
		var h []string
		if c.header != "" {
			h = append(h, c.header)
		}
		a := b.ask(http.MethodGet, c.path, "", h...)
		if a.code != c.code {
			t.Errorf("%s %s: %d", c.path, c.header, a.code)
		}
		if strings.Contains(a.body, "s3cr3t") || strings.Contains(a.body, "wrong\n") && c.code == 200 {
			t.Errorf("the reply shows the token: %s", a.body)
		}
	}
	if strings.Contains(log.String(), "s3cr3t") {
		t.Error("the log shows the token")
	}
}

func TestCheckListen(t *testing.T) {
	for a, ok := range map[string]bool{"127.0.0.1:8553": true, "[::1]:1": true, "[::ffff:127.0.0.1]:1": true, "0.0.0.0:8553": false, "[::]:1": false, "10.0.0.1:1": false} {
		ap := netip.MustParseAddrPort(a)
		if err := api.CheckListen(ap, ""); (err == nil) != ok {
			t.Errorf("%s without a token: %v", a, err)
		}
		if err := api.CheckListen(ap, "x"); err != nil {
			t.Errorf("%s with a token: %v", a, err)
		}
	}
}

func TestMethodsAndPaths(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		method, path string
		code         int
		allow        string
	}{
		{"GET", "/v1/agent/service/register", 405, "PUT"},
		{"POST", "/v1/agent/service/register", 405, "PUT"},
		{"DELETE", "/v1/agent/services", 405, "GET"},
		{"PUT", "/v1/health/service/web", 405, "GET"},
		{"HEAD", "/v1/status/leader", 200, ""},
		{"GET", "/v1/kv/x", 404, ""},
		{"GET", "/", 404, ""},
		{"GET", "/v1/health/service/", 404, ""},
		{"GET", "/v1/catalog/nodes/", 404, ""},
	} {
		a := b.ask(c.method, c.path, "")
		if a.code != c.code || a.header.Get("Allow") != c.allow {
			t.Errorf("%s %s: %d, allow %q", c.method, c.path, a.code, a.header.Get("Allow"))
		}
	}
	if a := b.get("/v1/x?" + strings.Repeat("y", 20<<10)); a.code != http.StatusRequestURITooLong {
		t.Errorf("long URL: %d", a.code)
	}
}
