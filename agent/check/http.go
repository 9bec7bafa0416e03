package check

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/resolverd/resolverd/registry"
)

const (
	userAgent       = "resolverd-check"
	maxRedirects    = 5
	maxHTTPHeaders  = 64 << 10
	maxResponseBody = MaxOutput
)

// httpProbe fetches a URL, http or https. 2xx is passing, 429 warning, all else and no
// answer critical, as in Consul. Each run has a connection of its own: a check asks
// whether a client could connect now. The environment's proxy is not used.
type httpProbe struct {
	client *http.Client
	method string
	url    string
	header http.Header
	host   string
	body   string
}

func newHTTP(d *registry.CheckDefinition) (*httpProbe, error) {
	p := &httpProbe{method: strings.ToUpper(d.Method), url: d.URL, body: d.Body, header: http.Header{}}
	if p.method == "" {
		p.method = http.MethodGet
	}
	for k, vs := range d.Header {
		if strings.EqualFold(k, "Host") {
			if len(vs) > 0 {
				p.host = vs[0]
			}
			continue
		}
		for _, v := range vs {
			p.header.Add(k, v)
		}
	}
	if p.header.Get("User-Agent") == "" {
		p.header.Set("User-Agent", userAgent)
	}
	if p.header.Get("Accept") == "" {
		p.header.Set("Accept", "text/plain, text/*, */*")
	}
	if _, err := http.NewRequest(p.method, p.url, nil); err != nil {
		return nil, fmt.Errorf("check: http: %w", err)
	}
	p.client = &http.Client{
		Transport: &http.Transport{
			Proxy:                  nil,
			DialContext:            (&net.Dialer{}).DialContext,
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxHTTPHeaders,
			TLSClientConfig:        tlsConfig(d, ""),
		},
		CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if d.NoRedirects {
				return http.ErrUseLastResponse
			}
			if len(via) > maxRedirects {
				return errors.New("more than 5 redirects")
			}
			return nil
		},
	}
	return p, nil
}

// tlsConfig is the definition's TLS; host is the name that the certificate must have
// where the definition names none, or "" where the library knows.
func tlsConfig(d *registry.CheckDefinition, host string) *tls.Config {
	name := d.TLSServerName
	if name == "" {
		name = host
	}
	return &tls.Config{ServerName: name, InsecureSkipVerify: d.TLSSkipVerify}
}

func (p *httpProbe) probe(ctx context.Context) result {
	req, err := http.NewRequestWithContext(ctx, p.method, p.url, strings.NewReader(p.body))
	if err != nil {
		return critical("%v", err)
	}
	req.Header, req.Host = p.header.Clone(), p.host
	resp, err := p.client.Do(req)
	if err != nil {
		return critical("%s", why(ctx, err))
	}
	defer resp.Body.Close()
	// The head came in time, so the status counts, whatever becomes of the body.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxResponseBody))
	r := passing("HTTP %s %s: %s Output: %s", p.method, p.url, resp.Status, tidy(body))
	switch {
	case resp.StatusCode == http.StatusTooManyRequests:
		r.status = registry.Warning
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		r.status = registry.Critical
	}
	return r
}
