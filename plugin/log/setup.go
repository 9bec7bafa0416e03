package log

import (
	"strconv"
	"strings"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/response"
	"github.com/miekg/dns"
)

const pluginName = "log"

func init() { plugin.Register(pluginName, setup) }

func setup(c *caddy.Controller) error {
	rules, err := parse(c)
	if err != nil {
		return plugin.Error(pluginName, err)
	}
	dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler {
		return &handler{next: next, rules: rules}
	})
	return nil
}

// parse reads `log [NAMES...] [FORMAT] { class CLASSES...; sample N }` and gives a rule
// for each name. As in CoreDNS a single argument is a name.
func parse(c *caddy.Controller) ([]rule, error) {
	var rules []rule
	for c.Next() {
		names, format := c.RemainingArgs(), commonFormat
		if n := len(names); n > 1 && strings.Contains(names[n-1], "{") {
			format = strings.ReplaceAll(names[n-1], "{common}", commonFormat)
			format = strings.ReplaceAll(format, "{combined}", combinedFormat)
			names = names[:n-1]
		}
		if len(names) == 0 {
			names = []string{"."}
		}
		classes, oneIn, err := parseBlock(c)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			rules = append(rules, rule{scope: dns.Fqdn(name), classes: classes, format: format, oneIn: oneIn, pieces: split(format)})
		}
	}
	return rules, nil
}

func parseBlock(c *caddy.Controller) (map[response.Class]bool, uint32, error) {
	classes, oneIn := map[response.Class]bool{}, uint32(0)
	for c.NextBlock() {
		switch c.Val() {
		case "class":
			args := c.RemainingArgs()
			if len(args) == 0 {
				return nil, 0, c.ArgErr()
			}
			for _, a := range args {
				class, err := response.ClassFromString(a)
				if err != nil {
					return nil, 0, c.Errf("%q is no class: all, success, denial or error", a)
				}
				classes[class] = true
			}
		case "sample":
			args := c.RemainingArgs()
			if len(args) != 1 {
				return nil, 0, c.ArgErr()
			}
			if oneIn > 0 {
				return nil, 0, c.Err("sample is written twice")
			}
			n, err := strconv.ParseUint(args[0], 10, 32)
			if err != nil || n < 1 || n > maxSample {
				return nil, 0, c.Errf("sample %s: want one in how many queries, 1 to %d", args[0], maxSample)
			}
			oneIn = uint32(n)
		default:
			return nil, 0, c.Errf("unknown property '%s'", c.Val())
		}
	}
	if len(classes) == 0 {
		classes[response.All] = true
	}
	return classes, max(oneIn, 1), nil
}
