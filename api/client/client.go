package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Config says where the API is.
type Config struct {
	// Address is host:port, or a URL with http or https; default 127.0.0.1:8553.
	Address string
	// Token is sent as a bearer token where it is not empty.
	Token string
	// Timeout bounds a request that does not block; default 20 s.
	Timeout time.Duration
	// Transport is http.DefaultTransport's like without a proxy where nil.
	Transport http.RoundTripper
}

const (
	defaultAddress = "127.0.0.1:8553"
	defaultTimeout = 20 * time.Second
	maxReply       = 512 << 20 // octets
	maxErrorText   = 16 << 10
)

// Client calls one API. It is safe for any number of goroutines.
type Client struct {
	base    *url.URL
	token   string
	timeout time.Duration
	http    *http.Client
}

// ErrUnreachable says that nothing answers at the API's address.
var ErrUnreachable = errors.New("the API does not answer")

// ErrOther says that another program answers there. It comes with ErrUnreachable.
var ErrOther = errors.New("what listens there is not resolverd")

// Error is a refusal by the API.
type Error struct {
	Method, Path string
	Status       int    // HTTP status code
	Text         string // what the API said, without the final line break
}

func (e *Error) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("the API says %d %s", e.Status, http.StatusText(e.Status))
	}
	return e.Text
}

// Status returns the HTTP status of a refusal, or 0 where err is none.
func Status(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// Result is what a write did.
type Result struct {
	Changed  bool   `json:"changed"`  // false: everything was so already
	Revision uint64 `json:"revision"` // of the store
	// Tombstone is the owner ("file", "docker", "sync") that would register again what
	// was deregistered, and does not before its definition changes; "" where none.
	Tombstone string `json:"tombstone,omitempty"`
}

// New returns a client. Nothing is sent yet.
func New(cfg Config) (*Client, error) {
	if cfg.Address == "" {
		cfg.Address = defaultAddress
	}
	at := cfg.Address
	if !strings.Contains(at, "://") {
		at = "http://" + at
	}
	u, err := url.Parse(at)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("client: address %q: must be host:port or an http or https URL", cfg.Address)
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Transport == nil {
		cfg.Transport = &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout: 5 * time.Second,
			IdleConnTimeout:     30 * time.Second,
		}
	}
	return &Client{base: u, token: cfg.Token, timeout: cfg.Timeout, http: &http.Client{
		Transport: cfg.Transport,
		// A redirect would carry the token elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// endpoint joins escaped path elements.
func endpoint(fixed string, more ...string) string {
	for _, m := range more {
		fixed += "/" + url.PathEscape(m)
	}
	return fixed
}

// notOurs is the error of a reply that no resolverd gives.
func (c *Client) notOurs(why string) error {
	return fmt.Errorf("%s: %w: %w (%s)", c.base.Host, ErrUnreachable, ErrOther, why)
}

// do sends a request and decodes the reply into out, where that is not nil.
func (c *Client) do(ctx context.Context, timeout time.Duration, method, path string, q url.Values, in, out any) (http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("client: encode: %w", err)
		}
		body = bytes.NewReader(b)
	}
	at := strings.TrimSuffix(c.base.String(), "/") + path
	if len(q) > 0 {
		at += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, at, body)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", c.base.Host, ErrUnreachable, cause(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		if resp.StatusCode >= 400 && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
			return nil, c.notOurs(fmt.Sprintf("it says %s in HTML", resp.Status))
		}
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorText)) // the status says enough
		return nil, &Error{Method: method, Path: path, Status: resp.StatusCode, Text: strings.TrimSpace(string(text))}
	}
	if out != nil {
		if err := json.NewDecoder(io.LimitReader(resp.Body, maxReply)).Decode(out); err != nil {
			var syntax *json.SyntaxError
			if errors.As(err, &syntax) {
				return nil, c.notOurs("its reply is no JSON")
			}
			return nil, fmt.Errorf("client: reply of %s: %w", path, err)
		}
	}
	return resp.Header, nil
}

// cause takes the URL, which may hold a secret, out of an error of net/http.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// put sends a write.
func (c *Client) put(ctx context.Context, path string, q url.Values, in any) (Result, error) {
	h, err := c.do(ctx, c.timeout, http.MethodPut, path, q, in, nil)
	if err != nil {
		return Result{}, err
	}
	rev, _ := strconv.ParseUint(h.Get("X-Resolverd-Revision"), 10, 64) // absent from a Consul
	return Result{Changed: h.Get("X-Resolverd-Changed") != "false", Revision: rev, Tombstone: h.Get("X-Resolverd-Tombstone")}, nil
}

func (c *Client) get(ctx context.Context, path string, q url.Values, out any) error {
	_, err := c.do(ctx, c.timeout, http.MethodGet, path, q, nil, out)
	return err
}
