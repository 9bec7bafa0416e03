package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/resolverd/resolverd/api"
	"github.com/resolverd/resolverd/cmd/resolverd/settings"
	"github.com/resolverd/resolverd/registry"
)

// addAPI gives a command that speaks to the HTTP API the flags that find it.
func addAPI(c *cobra.Command) {
	c.Flags().String("api", "", "address of the HTTP API (default 127.0.0.1:8553)")
	c.Flags().String("api-token-file", "", "file with the token that the API asks for; or $RESOLVERD_API_TOKEN")
	c.Flags().String("config", "", "resolverd.yaml to take api from (default "+settings.DefaultFile+" if it is there)")
}

// apiClient calls the HTTP API of a running resolverd.
type apiClient struct {
	base  string
	token string
	http  http.Client
}

func newAPIClient(cmd *cobra.Command) (*apiClient, error) {
	l, err := clientSettings(cmd)
	if err != nil {
		return nil, err
	}
	a := l.API.Address
	if a.Addr().IsUnspecified() {
		loopback := netip.MustParseAddr("127.0.0.1")
		if a.Addr().Is6() {
			loopback = netip.IPv6Loopback()
		}
		a = netip.AddrPortFrom(loopback, a.Port())
	}
	c := &apiClient{base: "http://" + a.String(), token: l.API.Token}
	if t := os.Getenv("RESOLVERD_API_TOKEN"); t != "" && !cmd.Flags().Changed("api-token-file") {
		c.token = t
	}
	// A proxy of the environment is not for this host's own API.
	c.http.Transport = &http.Transport{DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext}
	return c, nil
}

// maxReply bounds a reply of the API: 100,000 instances have about 60 MB.
const maxReply = 256 << 20

// refusal is an error reply of the API.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

// do calls the API; out, where not nil, takes the JSON of the reply.
func (c *apiClient) do(ctx context.Context, method, path string, query url.Values, body, out any) (http.Header, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("api: %w", err)
		}
		r = bytes.NewReader(b)
	}
	u := c.base + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, r)
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	if c.token != "" {
		req.Header.Set("X-Consul-Token", c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		return nil, apiError(&refusal{resp.StatusCode, strings.TrimSpace(string(text))})
	}
	if out == nil {
		return resp.Header, nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxReply)).Decode(out); err != nil {
		return nil, fmt.Errorf("api: reply of %s: %w", path, err)
	}
	return resp.Header, nil
}

func (c *apiClient) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	hint := ""
	if errors.Is(err, syscall.ECONNREFUSED) {
		hint = "start resolverd, or give the address that its API has with --api"
		err = syscall.ECONNREFUSED
	}
	return fail(exitUnreachable, hint, "the API at %s: %w", strings.TrimPrefix(c.base, "http://"), err)
}

// apiError gives a refusal its exit code.
func apiError(r *refusal) error {
	f := &failure{code: exitFailure, err: r}
	if r.text == "" {
		r.text = http.StatusText(r.status)
	}
	switch r.status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		f.code = exitUsage
	case http.StatusUnauthorized, http.StatusForbidden:
		f.code = exitDenied
		if strings.Contains(strings.ToLower(r.text), "token") {
			f.hint = "--api-token-file FILE or RESOLVERD_API_TOKEN=... gives the token"
		}
	case http.StatusNotFound:
		f.code = exitNotFound
	}
	return f
}

// write calls a PUT endpoint and says whether it changed anything.
func (c *apiClient) write(ctx context.Context, path string, query url.Values, body any) (changed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	h, err := c.do(ctx, http.MethodPut, path, query, body, nil)
	if err != nil {
		return false, err
	}
	return h.Get("X-Resolverd-Changed") != "false", nil
}

// instances returns the instances of a service, or of all where it is "". With an index
// above 0 it waits until that is no longer the newest.
func (c *apiClient) instances(ctx context.Context, service string, index uint64) ([]api.Instance, uint64, error) {
	q := url.Values{}
	if service != "" {
		q.Set("service", service)
	}
	if index > 0 {
		q.Set("index", strconv.FormatUint(index, 10))
		q.Set("wait", "5m")
	} else {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Minute)
		defer cancel()
	}
	var out []api.Instance
	h, err := c.do(ctx, http.MethodGet, "/v1/resolverd/instances", q, nil, &out)
	if err != nil {
		return nil, 0, err
	}
	next, err := strconv.ParseUint(h.Get("X-Consul-Index"), 10, 64)
	if err != nil {
		return nil, 0, fmt.Errorf("api: X-Consul-Index %q is no number", h.Get("X-Consul-Index"))
	}
	return out, next, nil
}

func (c *apiClient) nodes(ctx context.Context) (out []api.Node, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_, err = c.do(ctx, http.MethodGet, "/v1/resolverd/nodes", nil, nil, &out)
	return out, err
}

func (c *apiClient) history(ctx context.Context, q url.Values) (out []registry.Event, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_, err = c.do(ctx, http.MethodGet, "/v1/resolverd/history", q, nil, &out)
	return out, err
}
