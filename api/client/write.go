package client

import (
	"context"
	"net/url"
	"strconv"

	"github.com/resolverd/resolverd/registry"
)

// Register brings an instance with its checks onto the API's node, whatever its Node
// says. Checks that are not listed go. A zero Weights means the default.
func (c *Client) Register(ctx context.Context, i *registry.Instance, checks []*registry.Check) (Result, error) {
	return c.put(ctx, "/v1/agent/service/register", url.Values{"replace-existing-checks": {"true"}}, definition(i, checks))
}

// Deregister takes an instance out, from the API's node where node is empty. It is an
// Error of status 404 where there is no such instance on the API's node, and no change
// where there is none on another.
func (c *Client) Deregister(ctx context.Context, node, id string) (Result, error) {
	if node == "" {
		return c.put(ctx, endpoint("/v1/agent/service/deregister", id), nil, nil)
	}
	return c.put(ctx, "/v1/catalog/deregister", nil, map[string]string{"Node": node, "ServiceID": id})
}

// DeregisterNode takes a node out with all that is on it.
func (c *Client) DeregisterNode(ctx context.Context, node string) (Result, error) {
	return c.put(ctx, "/v1/catalog/deregister", nil, map[string]string{"Node": node})
}

// Maintenance switches maintenance of an instance, or of the node where id is empty; node
// is the API's where it is empty.
func (c *Client) Maintenance(ctx context.Context, node, id string, on bool, reason string) (Result, error) {
	path := "/v1/agent/maintenance"
	if id != "" {
		path = endpoint("/v1/agent/service/maintenance", id)
	}
	return c.put(ctx, path, switched(node, on, reason), nil)
}

// Drain switches the drain of an instance, or of all that are on the node now where id
// is empty; node is the API's where it is empty.
func (c *Client) Drain(ctx context.Context, node, id string, on bool, reason string) (Result, error) {
	path := "/v1/resolverd/drain"
	if id != "" {
		path = endpoint("/v1/resolverd/service/drain", id)
	}
	return c.put(ctx, path, switched(node, on, reason), nil)
}

func switched(node string, on bool, reason string) url.Values {
	q := url.Values{"enable": {strconv.FormatBool(on)}}
	if node != "" {
		q.Set("node", node)
	}
	if reason != "" {
		q.Set("reason", reason)
	}
	return q
}
