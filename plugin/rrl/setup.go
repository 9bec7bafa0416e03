package rrl

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"

	"github.com/resolverd/resolverd/internal/cookie"
	"github.com/resolverd/resolverd/internal/ratelimit"
	"github.com/resolverd/resolverd/internal/resident"
	"github.com/resolverd/resolverd/plugin/horizon"
)

const pluginName = "rrl"

func init() { plugin.Register(pluginName, setup) }

// options are what one directive says.
type options struct {
	settings ratelimit.Settings
	secrets  []cookie.Secret // none: random
}

func setup(c *caddy.Controller) error {
	opt, err := parse(c)
	if err != nil {
		return plugin.Error(pluginName, err)
	}
	h, err := newHandler(resident.Block(c.ServerBlockIndex), opt)
	if err != nil {
		return plugin.Error(pluginName, err)
	}
	c.OnStartup(func() error {
		registerMetrics()
		return nil
	})
	dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler {
		h.next = next
		return h
	})
	return nil
}

// newHandler returns the handler of a server block. Its buckets, and the random secret of
// all blocks, outlive a reload: neither gives a flood a new beginning, nor makes strangers
// of those who have a cookie.
func newHandler(block string, opt options) (*Handler, error) {
	table, err := ratelimit.NewTable(), error(nil)
	if block != "" {
		if table, err = resident.Get(pluginName, block, func() (*ratelimit.Table, error) { return ratelimit.NewTable(), nil }); err != nil {
			return nil, err
		}
	}
	h := &Handler{limiter: ratelimit.New(opt.settings, table, &counts)}
	if opt.secrets != nil {
		h.keeper = cookie.Fixed(opt.secrets)
		return h, nil
	}
	h.keeper, err = resident.Get(pluginName+" cookie", "", func() (*cookie.Keeper, error) { return cookie.Random(), nil })
	return h, err
}

// parse reads `rrl { ... }`.
func parse(c *caddy.Controller) (options, error) {
	opt := options{settings: ratelimit.Default()}
	var err error
	for n := 0; c.Next(); n++ {
		if n > 0 {
			return opt, plugin.ErrOnce
		}
		if args := c.RemainingArgs(); len(args) > 0 && !slices.Equal(args, []string{"{}"}) {
			return opt, c.Errf("takes no arguments, but %q: rates stand in its block, such as `responses 100`", args[0])
		}
		if err = parseBlock(c, &opt); err != nil {
			return opt, err
		}
	}
	return opt, opt.settings.Validate()
}

// several in properties is one argument or more.
const several = -1

// properties are the numbers of arguments that each takes.
var properties = map[string]int{
	"responses": 1, "denials": 1, "errors": 1, "burst": 1, "slip": 1, "prefix": 2,
	"exempt": several, "loopback": 0, "cookie_secret": 1,
}

func parseBlock(c *caddy.Controller, opt *options) error {
	s := &opt.settings
	seen := map[string]bool{}
	for c.NextBlock() {
		name, args := c.Val(), c.RemainingArgs()
		if seen[name] && name != "exempt" {
			return c.Errf("%s is written twice", name)
		}
		seen[name] = true
		want, known := properties[name]
		switch {
		case !known:
			return c.Errf("unknown property %q: %s are known", name, strings.Join(slices.Sorted(maps.Keys(properties)), ", "))
		case len(args) != want && (want != several || len(args) == 0):
			return c.ArgErr()
		}
		var err error
		switch name {
		case "responses":
			err = parseRate(c, args[0], &s.Rates[ratelimit.Answer])
		case "denials":
			err = parseRate(c, args[0], &s.Rates[ratelimit.Denial])
		case "errors":
			err = parseRate(c, args[0], &s.Rates[ratelimit.Error])
		case "burst":
			if s.Burst, err = time.ParseDuration(args[0]); err != nil || s.Burst < 0 || s.Burst > ratelimit.MaxBurst {
				err = c.Errf("burst %s: want a time of at most %s, such as 1s", args[0], ratelimit.MaxBurst)
			}
		case "slip":
			var n int
			n, err = parseNumber(c, name, args[0], 0, ratelimit.MaxSlip)
			s.Slip = uint8(n)
		case "prefix":
			if s.Bits4, err = parseNumber(c, "prefix for IPv4", args[0], 1, 32); err == nil {
				s.Bits6, err = parseNumber(c, "prefix for IPv6", args[1], 1, ratelimit.MaxBits6)
			}
		case "exempt":
			for _, a := range args {
				p, bad := horizon.ParsePrefix(a)
				if bad != nil {
					return c.Errf("exempt: %v", bad)
				}
				s.Exempt = append(s.Exempt, p)
			}
		case "loopback":
			s.Loopback = true
		case "cookie_secret":
			path := args[0]
			if root := dnsserver.GetConfig(c).Root; !filepath.IsAbs(path) && root != "" {
				path = filepath.Join(root, path)
			}
			if opt.secrets, err = cookie.ReadSecrets(path); err != nil {
				err = c.Errf("cookie_secret: %v", err)
			}
		}
		if err != nil {
			return err
		}
	}
	for _, o := range []struct {
		name  string
		class ratelimit.Class
	}{{"denials", ratelimit.Denial}, {"errors", ratelimit.Error}} {
		if !seen[o.name] {
			s.Rates[o.class] = s.Rates[ratelimit.Answer]
		}
	}
	return nil
}

// parseRate reads a number of responses a second, or off.
func parseRate(c *caddy.Controller, arg string, to *uint32) error {
	if arg == "off" {
		*to = 0
		return nil
	}
	n, err := strconv.ParseUint(arg, 10, 32)
	if err != nil || n < 1 || n > ratelimit.MaxRate {
		return c.Errf("%q is no rate: want responses a second, 1 to %d, or off", arg, ratelimit.MaxRate)
	}
	*to = uint32(n)
	return nil
}

func parseNumber(c *caddy.Controller, what, arg string, least, most int) (int, error) {
	n, err := strconv.Atoi(arg)
	if err != nil || n < least || n > most {
		return 0, c.Errf("%s %s: want a number from %d to %d", what, arg, least, most)
	}
	return n, nil
}
