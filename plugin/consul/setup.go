package consul

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"

	"github.com/resolverd/resolverd/forward"
	"github.com/resolverd/resolverd/internal/hostnet"
	"github.com/resolverd/resolverd/internal/resident"
)

const (
	defaultZone    = "service.consul."
	wholeZone      = "consul."
	defaultPort    = 8600
	defaultTimeout = time.Second
	maxTimeout     = 5 * time.Second
	defaultLimit   = 512
	maxAgents      = 15
	// loopbackSize is the UDP reply asked of an agent on this host. Consul cuts to what is
	// asked for and by default does not say that it did, so ask for all of it: loopback
	// does not fragment.
	loopbackSize = 65000
)

func init() { plugin.Register("consul", setup) }

// settings is a consul directive as written.
type settings struct {
	zones    []string
	to       []netip.AddrPort
	timeout  time.Duration
	limit    int64
	forceTCP bool
}

func setup(c *caddy.Controller) error {
	s, err := parse(c)
	if err != nil {
		return plugin.Error("consul", err)
	}
	o := s.options()
	pool, err := resident.Get("consul", s.key(), func() (*forward.Pool, error) { return forward.Open(o) })
	if err != nil {
		return plugin.Error("consul", errors.New(strings.TrimPrefix(err.Error(), "forward: ")))
	}
	host, err := resident.Get("hostnet", "addresses", func() (*hostnet.Follower, error) {
		return hostnet.Follow(slog.Default())
	})
	if err != nil {
		return plugin.Error("consul", fmt.Errorf("addresses of this host: %w", err))
	}
	config := dnsserver.GetConfig(c)
	h := &Consul{zones: s.zones, pool: pool, own: hostnet.NewListeners(config.Port, config.ListenHosts, host)}
	h.limit.Max = s.limit
	config.AddPlugin(func(next plugin.Handler) plugin.Handler {
		h.Next = next
		return h
	})
	c.OnStartup(func() error {
		registerMetrics()
		pool.Start()
		return nil
	})
	return nil
}

func parse(c *caddy.Controller) (*settings, error) {
	s := &settings{timeout: defaultTimeout, limit: defaultLimit}
	for c.Next() {
		if s.zones != nil {
			return nil, c.Err("only one consul in a server block; name several zones in it")
		}
		for _, z := range c.RemainingArgs() {
			if z == "all" {
				s.zones = append(s.zones, wholeZone)
				continue
			}
			zones := plugin.Host(z).NormalizeExact()
			if len(zones) == 0 {
				return nil, c.Errf("unable to normalize '%s'", z)
			}
			s.zones = append(s.zones, zones...)
		}
		if s.zones == nil {
			s.zones = []string{defaultZone}
		}
		for c.NextBlock() {
			if err := s.property(c); err != nil {
				return nil, err
			}
		}
	}
	if s.to == nil {
		s.to = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), defaultPort)}
	}
	return s, nil
}

func (s *settings) property(c *caddy.Controller) error {
	name := c.Val()
	args := c.RemainingArgs()
	one := func() (string, error) {
		if len(args) != 1 {
			return "", c.ArgErr()
		}
		return args[0], nil
	}
	switch name {
	case "to":
		if len(args) == 0 {
			return c.ArgErr()
		}
		for _, a := range args {
			to, err := parseAgent(a)
			if err != nil {
				return c.Err(err.Error())
			}
			if !slices.Contains(s.to, to) {
				s.to = append(s.to, to)
			}
		}
		if len(s.to) > maxAgents {
			return c.Errf("more than %d agents: %d", maxAgents, len(s.to))
		}
	case "timeout":
		v, err := one()
		if err != nil {
			return err
		}
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 || d > maxTimeout {
			return c.Errf("timeout must be a duration above 0 and not over %s: %s", maxTimeout, v)
		}
		s.timeout = d
	case "max_concurrent":
		v, err := one()
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(v, 10, 32)
		if err != nil || n <= 0 {
			return c.Errf("max_concurrent must be a number above 0: %s", v)
		}
		s.limit = n
	case "force_tcp":
		if len(args) > 0 {
			return c.ArgErr()
		}
		s.forceTCP = true
	default:
		return c.Errf("unknown property '%s'", name)
	}
	return nil
}

// parseAgent parses ADDRESS or ADDRESS:PORT, with brackets around an IPv6 address that
// has a port.
func parseAgent(text string) (netip.AddrPort, error) {
	to, err := netip.ParseAddrPort(text)
	if err != nil {
		a, aerr := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
		if aerr != nil {
			return to, fmt.Errorf("an agent is an IP address with or without a port: '%s'", text)
		}
		to = netip.AddrPortFrom(a, defaultPort)
	}
	if to.Port() == 0 || to.Addr().IsUnspecified() || to.Addr().IsMulticast() {
		return to, fmt.Errorf("not the address of an agent: '%s'", text)
	}
	return netip.AddrPortFrom(to.Addr().Unmap(), to.Port()), nil
}

// options are the pool's: the first agent that is there is asked once, one that is away
// is known after three failures and then answered for at once, while a probe for the
// zone itself, which any Consul answers somehow, looks for its return.
func (s *settings) options() forward.Options {
	o := forward.Default()
	o.Name = "consul"
	local := true
	for _, a := range s.to {
		o.Sources = append(o.Sources, forward.Source{Endpoint: forward.Endpoint{Addr: a}})
		local = local && a.Addr().IsLoopback()
	}
	o.Policy = forward.Sequential
	o.ReadTimeout = s.timeout
	o.ProbeTimeout = s.timeout
	o.MaxAttempts = len(s.to)
	o.CountQueries = true
	o.FailFast = true
	o.ProbeName = s.zones[0]
	o.Observer = metrics
	o.Log = slog.Default()
	if local {
		o.EDNSSize = loopbackSize
	}
	// Off the host a large UDP reply would be lost and a small one silently cut.
	o.ForceTCP = s.forceTCP || !local
	return o
}

func (s *settings) key() string {
	return fmt.Sprintf("%v %s %t %q", s.to, s.timeout, s.forceTCP, s.zones[0])
}
