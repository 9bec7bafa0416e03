package specialuse

import (
	"reflect"
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
	dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler {
		// The chain is put together from its end, so that below us is complete here.
		h.Next = next
		h.route(routesBelow(next))
		return h
	})
	c.OnStartup(func() error {
		register()
		return nil
	})
	return nil
}

// maxChain bounds the plugins that are looked at in a chain.
const maxChain = 1000

// routesBelow returns the routes of all plugins from h down. CoreDNS lists one handler a
// name, but a block may forward many zones, so the chain itself is followed: by
// convention every plugin has its successor in a field Next.
func routesBelow(h plugin.Handler) (zones []string) {
	for range maxChain {
		if r, ok := h.(Router); ok {
			zones = append(zones, r.Routes()...)
		}
		v := reflect.Indirect(reflect.ValueOf(h))
		if !v.IsValid() || v.Kind() != reflect.Struct {
			return zones
		}
		next := v.FieldByName("Next")
		if !next.IsValid() || !next.CanInterface() {
			return zones
		}
		var ok bool
		if h, ok = next.Interface().(plugin.Handler); !ok || h == nil {
			return zones
		}
	}
	return zones
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
