package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"
	"time"
)

// maxResult bounds what a client reads of a result, in octets.
const maxResult = 8 << 20

// ErrNotRunning says that nobody answers on the control socket.
var ErrNotRunning = errors.New("resolverd is not running")

// Client speaks to the control socket of a running resolverd. It is safe for
// concurrent use and holds no connection between calls.
type Client struct {
	path string
	http *http.Client
}

// NewClient returns a client for the socket at path; it does not connect.
func NewClient(path string) *Client {
	d := &net.Dialer{Timeout: 5 * time.Second}
	return &Client{path: path, http: &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return d.DialContext(ctx, "unix", path)
			},
		},
	}}
}

// Call sends params (nil for none) to a verb and decodes its result into result, where
// that is not nil. The error is [*Error] where the verb refused, and wraps
// [ErrNotRunning] where nobody listens.
func (c *Client) Call(ctx context.Context, verb string, params, result any) error {
	body, err := json.Marshal(params)
	if err != nil {
		return fmt.Errorf("control: %s: %w", verb, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://resolverd/v1/"+verb, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("control: %s: %w", verb, err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
			return &dialError{fmt.Errorf("%w: nobody listens on %s", ErrNotRunning, c.path), "start it, or give the --data-dir that it was started with"}
		case errors.Is(err, fs.ErrPermission):
			return &dialError{fmt.Errorf("control: %s: %w", c.path, fs.ErrPermission), "run the command as root or as the user that resolverd runs as"}
		}
		return fmt.Errorf("control: %s: %w", verb, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxResult))
	if err != nil {
		return fmt.Errorf("control: %s: %w", verb, err)
	}
	if resp.StatusCode != http.StatusOK {
		e := new(Error)
		if json.Unmarshal(b, e) != nil || e.Text == "" {
			e.Text = "control: " + verb + ": " + resp.Status
		}
		return e
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(b, result); err != nil {
		return fmt.Errorf("control: %s: %w", verb, err)
	}
	return nil
}

// Reload has the Corefile loaded again and waits until the new one is served. A refused
// Corefile is an [*Error] whose text has a line "file:line: text" for each fault.
func (c *Client) Reload(ctx context.Context) error { return c.Call(ctx, VerbReload, nil, nil) }

// CacheFlush drops what f says and returns how many responses that were.
func (c *Client) CacheFlush(ctx context.Context, f Flush) (int, error) {
	if err := f.Validate(); err != nil {
		return 0, err
	}
	var r Flushed
	err := c.Call(ctx, VerbCacheFlush, f, &r)
	return r.Removed, err
}

// dialError adds a hint to an error of the connection.
type dialError struct {
	error
	tip string
}

func (e *dialError) Unwrap() error { return e.error }
func (e *dialError) Hint() string  { return e.tip }
