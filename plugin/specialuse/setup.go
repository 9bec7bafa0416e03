package specialuse

import (
	"strings"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
)

func init() { plugin.Register(pluginName, setup) }

// Router is implemented by plugins further down that send some zones elsewhere. Names
// below those are theirs, special or not.
type Router interface {
	// Routes returns the zones that were given explicitly; "." is none.
	Routes() []string
}

func setup(c *caddy.Controller) error {
	h, err := parse(c)
	if err != nil {
		return plugin.Error(pluginName, err)
	}
	config := dnsserver.GetConfig(c)
	config.AddPlugin(func(next plugin.Handler) plugin.Handler {
		h.Next = next
		return h
	})
	c.OnStartup(func() error {
		register()
		// The chain is complete here, and no query was served yet.
		for _, other := range config.Handlers() {
			if r, ok := other.(Router); ok {
				h.route(r.Routes())
			}
		}
		return nil
	})
	return nil
}

func (h *Handler) route(zones []string) {
	for _, z := range zones {
		if z != "." && z != "" {
			h.except = append(h.except, strings.ToLower(z))
		}
	}
}

func parse(c *caddy.Controller) (*Handler, error) {
	h := &Handler{}
	for seen := false; c.Next(); seen = true {
		if seen {
			return nil, plugin.ErrOnce
		}
		if args := c.RemainingArgs(); len(args) > 0 {
			if err := h.exceptions(c, args); err != nil {
				return nil, err
			}
		}
		for c.NextBlock() {
			if err := h.exceptions(c, append([]string{c.Val()}, c.RemainingArgs()...)); err != nil {
				return nil, err
			}
		}
	}
	return h, nil
}

// exceptions reads `except ZONE...`.
func (h *Handler) exceptions(c *caddy.Controller, args []string) error {
	if args[0] != "except" {
		return c.Errf("unknown option %q, want except ZONE...", args[0])
	}
	if len(args) == 1 {
		return c.ArgErr()
	}
	for _, a := range args[1:] {
		zones := plugin.Host(a).NormalizeExact()
		if len(zones) == 0 {
			return c.Errf("%q is no zone", a)
		}
		h.route(zones)
	}
	return nil
}
