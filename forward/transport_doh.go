package forward

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

const (
	dohPath = "/dns-query"
	dohType = "application/dns-message"
)

// doh is DNS over HTTPS (RFC 8484), HTTP/2 where the upstream speaks it. The address is
// the endpoint's; no proxy is asked, no redirect followed, no name looked up.
type doh struct {
	url    string
	host   string // the Host header; "" for the address
	method string
	client *http.Client
	web    *http.Transport
	on     *counters
	label  string
}

func newDoH(e Endpoint, cfg *tls.Config, d dialer, o *Options, on *counters) *doh {
	web := &http.Transport{
		TLSClientConfig:        cfg,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdle,
		MaxConnsPerHost:        maxIdle,
		IdleConnTimeout:        max(o.Expire, time.Second),
		MaxResponseHeaderBytes: 16 << 10,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.tcp(ctx, time.Time{})
		},
	}
	if o.MaxIdle > 0 {
		web.MaxIdleConns, web.MaxIdleConnsPerHost = o.MaxIdle, o.MaxIdle
	}
	if o.Expire <= 0 {
		web.DisableKeepAlives = true
	}
	addr := netip.AddrPortFrom(e.Addr.Addr().WithZone(""), e.Addr.Port())
	return &doh{
		url:    "https://" + addr.String() + dohPath,
		host:   e.ServerName,
		method: o.DoHMethod,
		web:    web,
		client: &http.Client{
			Transport:     web,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		on:    on,
		label: e.Label(),
	}
}

func (h *doh) close() { h.web.CloseIdleConnections() }

func (h *doh) exchange(ctx context.Context, r *request, g *reply) error {
	ctx, cancel := context.WithDeadline(ctx, r.deadline())
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) {
			g.local = localOf(i.Conn.LocalAddr())
			h.on.connection("https", i.Reused)
		},
	})
	// The id is 0, for caches' sake (RFC 8484, section 4.1); TLS vouches for the reply.
	var (
		req *http.Request
		err error
	)
	if h.method == http.MethodGet {
		req, err = http.NewRequestWithContext(ctx, http.MethodGet, h.url+"?dns="+base64.RawURLEncoding.EncodeToString(r.wire), nil)
	} else {
		req, err = http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(r.wire))
	}
	if err != nil {
		return fmt.Errorf("forward: https to %s: %w", h.label, err)
	}
	req.Host = h.host
	req.Header.Set("Accept", dohType)
	if h.method != http.MethodGet {
		req.Header.Set("Content-Type", dohType)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return fmt.Errorf("forward: https to %s: %w", h.label, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("forward: https to %s: status %d", h.label, resp.StatusCode)
	}
	if t := resp.Header.Get("Content-Type"); t != dohType {
		return fmt.Errorf("forward: https to %s: content type %.40q", h.label, t)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, dns.MaxMsgSize+1))
	if err != nil {
		return fmt.Errorf("forward: https to %s: %w", h.label, err)
	}
	if len(body) > dns.MaxMsgSize {
		return fmt.Errorf("%w from %s: over %d octets", errMalformed, h.label, dns.MaxMsgSize)
	}
	if r.take(g, body, 0, true) != accept {
		return fmt.Errorf("%w from %s", errMalformed, h.label)
	}
	return nil
}
