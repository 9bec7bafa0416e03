package client

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/resolverd/resolverd/api"
	"github.com/resolverd/resolverd/registry"
)

// Query selects instances; empty fields select all.
type Query struct {
	Service, Node string
}

func (q Query) values() url.Values {
	v := url.Values{}
	if q.Service != "" {
		v.Set("service", q.Service)
	}
	if q.Node != "" {
		v.Set("node", q.Node)
	}
	return v
}

// Instances lists instances by service, node and id.
func (c *Client) Instances(ctx context.Context, q Query) ([]api.Instance, error) {
	var out []api.Instance
	return out, c.get(ctx, "/v1/resolverd/instances", q.values(), &out)
}

// Services maps each service to all of its tags.
func (c *Client) Services(ctx context.Context) (map[string][]string, error) {
	var out map[string][]string
	return out, c.get(ctx, "/v1/catalog/services", nil, &out)
}

// Nodes lists nodes by name.
func (c *Client) Nodes(ctx context.Context) ([]api.Node, error) {
	var out []api.Node
	return out, c.get(ctx, "/v1/resolverd/nodes", nil, &out)
}

// Status tells what the agent's view shows.
func (c *Client) Status(ctx context.Context) (api.Status, error) {
	var out api.Status
	return out, c.get(ctx, "/v1/resolverd/status", nil, &out)
}

// History lists events, the newest first.
func (c *Client) History(ctx context.Context, q registry.HistoryQuery) ([]registry.Event, error) {
	v := url.Values{}
	if q.Name != "" {
		v.Set("name", q.Name)
	}
	if !q.Since.IsZero() {
		v.Set("since", q.Since.UTC().Format(time.RFC3339Nano))
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	var out []registry.Event
	return out, c.get(ctx, "/v1/resolverd/history", v, &out)
}

// Times of Watch.
const (
	watchWait  = 5 * time.Minute
	watchSlack = 30 * time.Second // beside the wait and its sixteenth
	firstPause = 500 * time.Millisecond
	lastPause  = 10 * time.Second
)

// Watch calls show with the instances now, and again after each change, until the
// context ends (nil), show returns an error (that one), or the API refuses (an Error).
// While the API does not answer it tries again, and calls lost, which may be nil, each
// time.
func (c *Client) Watch(ctx context.Context, q Query, show func([]api.Instance) error, lost func(error)) error {
	index, pause := "", firstPause
	for {
		v := q.values()
		if index != "" {
			v.Set("index", index)
			v.Set("wait", watchWait.String())
		}
		var out []api.Instance
		h, err := c.do(ctx, watchWait+watchWait/16+watchSlack, http.MethodGet, "/v1/resolverd/instances", v, nil, &out)
		select {
		case <-ctx.Done():
			return nil
		default:
		}
		if err == nil {
			pause = firstPause
			now := h.Get("X-Consul-Index")
			if now != index || index == "" {
				if err := show(out); err != nil {
					return err
				}
			}
			index = now
			continue
		}
		var refused *Error
		if errors.As(err, &refused) && refused.Status < http.StatusInternalServerError && refused.Status != http.StatusTooManyRequests {
			return err
		}
		if lost != nil {
			lost(err)
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil
		}
		pause = min(2*pause, lastPause)
	}
}
