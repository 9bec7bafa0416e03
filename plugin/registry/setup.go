package registry

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/coredns/coredns/plugin/pkg/upstream"
	"github.com/miekg/dns"
	"github.com/resolverd/resolverd/internal/resident"
	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/names"
)

// What the process provides to this directive, see internal/resident.
const (
	ProvidedView       = "registry.view"       // *registry.View
	ProvidedDatacenter = "registry.datacenter" // string, the data centre's name
)

// DefaultZone is answered where neither the directive nor its server block names one.
const DefaultZone = "internal."

func init() { plugin.Register(pluginName, setup) }

var log = clog.NewWithPlugin(pluginName)

func setup(c *caddy.Controller) error {
	h, err := parse(c)
	if err != nil {
		return plugin.Error(pluginName, err)
	}
	config := dnsserver.GetConfig(c)
	for _, l := range config.ListenHosts {
		if a, err := netip.ParseAddr(l); err == nil && !a.IsUnspecified() && !a.IsLoopback() {
			h.glue = append(h.glue, a)
		}
	}
	c.OnStartup(func() error {
		// A check of the Corefile sets up without a view, so only a start misses it.
		if view, ok := resident.Provided[*registry.View](ProvidedView); ok {
			h.view = view
		} else {
			log.Warning("this process has no registry: its names are answered SERVFAIL")
		}
		h.axfr = config.Handler("transfer")
		observe(h.view)
		return nil
	})
	config.AddPlugin(func(next plugin.Handler) plugin.Handler {
		h.Next = next
		return h
	})
	return nil
}

// parse reads every `registry` of a server block into one handler.
func parse(c *caddy.Controller) (*Handler, error) {
	h := &Handler{view: registry.NewView(), chase: upstream.New(), rand: names.Global, now: time.Now}
	if view, ok := resident.Provided[*registry.View](ProvidedView); ok {
		h.view = view
	}
	for c.Next() {
		zones, err := zonesOf(c)
		if err != nil {
			return nil, err
		}
		for c.NextBlock() {
			name, args := c.Val(), c.RemainingArgs()
			for _, z := range zones {
				if err := option(c, z, name, args); err != nil {
					return nil, err
				}
			}
		}
		for _, z := range zones {
			if err := z.Validate(); err != nil {
				return nil, c.Err(err.Error())
			}
			if slices.ContainsFunc(h.zones, func(o *zone) bool { return o.Origin == z.Origin }) {
				return nil, c.Errf("zone %q is given twice", z.Origin)
			}
			h.zones = append(h.zones, z)
		}
	}
	return h, nil
}

// zonesOf makes the zones of one directive: its arguments, else the server block's
// zones, else the default one.
func zonesOf(c *caddy.Controller) ([]*zone, error) {
	args := c.RemainingArgs()
	if len(args) == 0 {
		args = slices.DeleteFunc(plugin.OriginsFromArgsOrServerBlock(nil, c.ServerBlockKeys), func(z string) bool {
			return z == "." || strings.HasSuffix(z, ".arpa.")
		})
	}
	if len(args) == 0 {
		args = []string{DefaultZone}
	}
	var zones []*zone
	for _, arg := range args {
		for _, origin := range plugin.Host(arg).NormalizeExact() {
			z, err := names.NewZone(origin)
			if err != nil {
				return nil, c.Err(err.Error())
			}
			if origin == "." || strings.HasSuffix(origin, ".arpa.") {
				return nil, c.Errf("%q cannot be a registry zone; reverse names are answered without being listed", arg)
			}
			if dc, ok := resident.Provided[string](ProvidedDatacenter); ok && dc != "" {
				z.Datacenter = dc
			}
			zones = append(zones, &zone{Zone: z})
		}
	}
	if len(zones) == 0 {
		return nil, c.Errf("no zone name among %q", args)
	}
	return zones, nil
}

// option applies one line of the block to one zone.
func option(c *caddy.Controller, z *zone, name string, args []string) error {
	switch name {
	case "ttl":
		return duration(c, name, &z.TTL, args)
	case "negative_ttl":
		return duration(c, name, &z.NegativeTTL, args)
	case "only_passing":
		return switchOn(c, &z.OnlyPassing, true, args)
	case "all_critical":
		if len(args) == 0 || args[0] != "nxdomain" && args[0] != "last_good" {
			return c.Errf("all_critical wants nxdomain or last_good, then services if not for the zone")
		}
		return switchOn(c, &z.LastGood, args[0] == "last_good", args[1:])
	case "srv_drain":
		if len(args) != 1 || args[0] != "keep" && args[0] != "omit" {
			return c.Errf("srv_drain wants keep or omit")
		}
		z.OmitDraining = args[0] == "omit"
	case "short":
		z.Short = true
		return none(c, name, args)
	case "exclusive":
		z.Exclusive = true
		return none(c, name, args)
	case "fallthrough":
		z.fall.SetZonesFromArgs(args)
	case "datacenter":
		if len(args) != 1 {
			return c.ArgErr()
		}
		z.Datacenter = registry.Fold(args[0])
	case "ns":
		return hostName(c, name, &z.NS, args)
	case "mbox":
		return hostName(c, name, &z.Mbox, args)
	default:
		return c.Errf("unknown option %q", name)
	}
	return nil
}

// duration reads `[NAME] DURATION`.
func duration(c *caddy.Controller, option string, r *names.Rules[time.Duration], args []string) error {
	if len(args) != 1 && len(args) != 2 {
		return c.Errf("%s wants a duration, or a service and a duration", option)
	}
	text := args[len(args)-1]
	d, err := time.ParseDuration(text)
	if n, e := strconv.ParseUint(text, 10, 31); e == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d < 0 || d > names.MaxTTL || d%time.Second != 0 {
		return c.Errf("%s: %q is no duration in whole seconds from 0 to %s", option, text, names.MaxTTL)
	}
	if len(args) == 1 {
		r.Default = d
		return nil
	}
	if err := r.Set(args[0], d); err != nil {
		return c.Err(err.Error())
	}
	return nil
}

// switchOn reads `[NAME...]`.
func switchOn(c *caddy.Controller, r *names.Rules[bool], v bool, args []string) error {
	if len(args) == 0 {
		r.Default = v
	}
	for _, a := range args {
		if err := r.Set(a, v); err != nil {
			return c.Err(err.Error())
		}
	}
	return nil
}

func none(c *caddy.Controller, option string, args []string) error {
	if len(args) > 0 {
		return c.Errf("%s takes no argument", option)
	}
	return nil
}

func hostName(c *caddy.Controller, option string, to *string, args []string) error {
	if len(args) != 1 {
		return c.Errf("%s wants a name", option)
	}
	if _, ok := dns.IsDomainName(args[0]); !ok {
		return c.Errf("%s: %q is no name", option, args[0])
	}
	*to = dns.Fqdn(args[0])
	return nil
}
