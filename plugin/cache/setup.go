package cache

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	engine "github.com/resolverd/resolverd/cache"
	"github.com/resolverd/resolverd/internal/resident"
)

func init() { plugin.Register(pluginName, setup) }

// ProvidedDir is the name under which the process provides the directory, a string, that
// caches are kept in over a restart; without it they are not. See internal/resident.
const ProvidedDir = "cache.dir"

// zoneBypasser is what a plugin implements whose zones change under our hands and must
// be asked directly, as CoreDNS's dynupdate does.
type zoneBypasser interface {
	CacheBypassZones() []string
}

func setup(c *caddy.Controller) error {
	opt, err := parse(c)
	if err != nil {
		return plugin.Error(pluginName, err)
	}
	store, own, err := open(resident.Block(c.ServerBlockIndex), opt)
	if err != nil {
		return plugin.Error(pluginName, err)
	}
	h := newHandler(store.Cache, opt)

	c.OnStartup(func() error {
		registerMetrics()
		h.viewLabel = dnsserver.GetConfig(c).ViewName
		for _, other := range dnsserver.GetConfig(c).Handlers() {
			if b, ok := other.(zoneBypasser); ok {
				h.bypass = append(h.bypass, b.CacheBypassZones()...)
			}
		}
		// Only now: a Corefile that is refused must not have changed the bounds, nor what is
		// on disk.
		err := store.Resize(opt.size, time.Now())
		store.keep(opt)
		return err
	})
	c.OnShutdown(func() error {
		h.close()
		if own {
			return store.Close()
		}
		return nil
	})

	dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler {
		h.Next = next
		return h
	})
	return nil
}

// open returns the store of the server block, which outlives a reload, and false; or
// where no loader told the blocks apart a store of this handler's own, and true.
func open(block string, opt options) (*Store, bool, error) {
	name := strings.Join(opt.zones, ",")
	if block == "" {
		store, err := newStore(name, "", opt)
		return store, true, err
	}
	// Entries that were stored on other terms are not what the Corefile now says.
	key := fmt.Sprint(block, " ", name, opt.terms, opt.noSuccess, opt.noDenial)
	file := fileOf(key)
	store, err := resident.Get(kind, key, func() (*Store, error) { return newStore(name, file, opt) })
	return store, false, err
}

func parse(c *caddy.Controller) (options, error) {
	opt := defaults()
	for n := 0; c.Next(); n++ {
		if n > 0 {
			return opt, plugin.ErrOnce
		}
		args := c.RemainingArgs()
		if n := len(args); n > 0 && args[n-1] == "{}" {
			args = args[:n-1] // an empty block, not a zone
		}
		if len(args) > 0 {
			// A first argument that is no number is a zone.
			if ttl, err := strconv.Atoi(args[0]); err == nil {
				d, err := ttlArg(c, ttl)
				if err != nil {
					return opt, err
				}
				opt.terms.MaxSuccess, opt.terms.MaxDenial = d, d
				args = args[1:]
			}
		}
		opt.zones = plugin.OriginsFromArgsOrServerBlock(args, c.ServerBlockKeys)
		if err := parseBlock(c, &opt); err != nil {
			return opt, err
		}
	}
	return opt, opt.size.Validate()
}

func parseBlock(c *caddy.Controller, opt *options) error {
	staleSet, policySet := false, false
	for c.NextBlock() {
		option, args := c.Val(), c.RemainingArgs()
		var err error
		switch option {
		case "success":
			opt.size.Success, err = parseClass(c, args, &opt.terms.MaxSuccess, &opt.terms.MinSuccess)
		case "denial":
			opt.size.Denial, err = parseClass(c, args, &opt.terms.MaxDenial, &opt.terms.MinDenial)
		case "bytes":
			opt.size.Bytes, err = parseBytes(c, args)
		case "prefetch":
			err = parsePrefetch(c, args, &opt.prefetch)
		case "serve_stale":
			staleSet = true
			err = parseStale(c, args, &opt.stale)
		case "serve_stale_policy":
			if policySet {
				return c.Err("serve_stale_policy may be given once")
			}
			policySet = true
			if len(args) != 1 {
				return c.ArgErr()
			}
			if strings.ToLower(args[0]) != "prefer_positive" {
				return c.Errf("serve_stale_policy %q is unknown; prefer_positive is the one there is", args[0])
			}
			opt.stale.preferPositive = true
		case "servfail":
			err = parseServfail(c, args, &opt.terms.Failure)
		case "disable":
			err = parseDisable(c, args, opt)
		case "ttl":
			err = parseTTL(c, args, &opt.bounds)
		case "snapshot":
			err = parseSnapshot(c, args, &opt.snapshot)
		case "keepttl":
			if len(args) != 0 {
				return c.ArgErr()
			}
			opt.keepTTL = true
		default:
			return c.Errf("unknown option %q", option)
		}
		if err != nil {
			return err
		}
	}
	var err error
	if opt.terms, err = opt.terms.WithBounds(opt.bounds); err != nil {
		return c.Errf("ttl: %s", strings.TrimPrefix(err.Error(), "cache: "))
	}
	if policySet && !staleSet {
		return c.Err("serve_stale_policy needs serve_stale")
	}
	return nil
}

// parseClass reads CAPACITY [TTL] [MINTTL].
func parseClass(c *caddy.Controller, args []string, most, least *time.Duration) (int, error) {
	if len(args) == 0 || len(args) > 3 {
		return 0, c.ArgErr()
	}
	capacity, err := strconv.Atoi(args[0])
	if err != nil || capacity < 0 {
		return 0, c.Errf("capacity %q is not a number of entries", args[0])
	}
	if len(args) > 1 {
		ttl, err := strconv.Atoi(args[1])
		if err != nil {
			return 0, c.Errf("TTL %q is not a number of seconds", args[1])
		}
		if *most, err = ttlArg(c, ttl); err != nil {
			return 0, err
		}
	}
	if len(args) > 2 {
		ttl, err := strconv.Atoi(args[2])
		if err != nil || ttl < 0 || ttl > maxTTLArg {
			return 0, c.Errf("minimum TTL %q is not a number of seconds, 0 or more", args[2])
		}
		*least = time.Duration(ttl) * time.Second
	}
	return capacity, nil
}

const maxTTLArg = 1<<31 - 1 // RFC 2181, section 8

func ttlArg(c *caddy.Controller, ttl int) (time.Duration, error) {
	if ttl <= 0 || ttl > maxTTLArg {
		return 0, c.Errf("TTL %d is out of range: 1 to %d seconds", ttl, maxTTLArg)
	}
	return time.Duration(ttl) * time.Second, nil
}

var units = []struct {
	suffix string
	bytes  int64
}{
	{"kib", 1 << 10},
	{"mib", 1 << 20},
	{"gib", 1 << 30},
	{"kb", 1e3},
	{"mb", 1e6},
	{"gb", 1e9},
	{"k", 1 << 10},
	{"m", 1 << 20},
	{"g", 1 << 30},
	{"", 1},
}

const maxBytes = 1 << 40

// parseBytes reads a size such as 64MiB; a number alone is octets.
func parseBytes(c *caddy.Controller, args []string) (int64, error) {
	if len(args) != 1 {
		return 0, c.ArgErr()
	}
	s := strings.ToLower(args[0])
	for _, u := range units {
		digits, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 0 || n > maxBytes/u.bytes || n*u.bytes < engine.MinBytes {
			break
		}
		return n * u.bytes, nil
	}
	return 0, c.Errf("bytes %q is not a size from 1MiB to 1024GiB", args[0])
}

func parsePrefetch(c *caddy.Controller, args []string, p *prefetch) error {
	if len(args) == 0 || len(args) > 3 {
		return c.ArgErr()
	}
	amount, err := strconv.Atoi(args[0])
	if err != nil || amount < 0 {
		return c.Errf("prefetch amount %q is not a number of queries", args[0])
	}
	p.amount = amount
	if len(args) > 1 {
		if p.window, err = time.ParseDuration(args[1]); err != nil {
			return c.Errf("prefetch duration: %v", err)
		}
	}
	if len(args) > 2 {
		digits, ok := strings.CutSuffix(args[2], "%")
		if !ok {
			return c.Errf("prefetch percentage %q does not end in %%", args[2])
		}
		if p.percent, err = strconv.Atoi(digits); err != nil || p.percent < 10 || p.percent > 90 {
			return c.Errf("prefetch percentage %q is not between 10%% and 90%%", args[2])
		}
	}
	return nil
}

// parseStale reads [DURATION] [immediate [TTL [RECHECK]] | verify [TIMEOUT [TTL [RECHECK]]]].
func parseStale(c *caddy.Controller, args []string, s *stale) error {
	*s = stale{upTo: defaultStale, preferPositive: s.preferPositive}
	if len(args) == 0 {
		return nil
	}
	var err error
	if s.upTo, err = notNegative(args[0]); err != nil {
		return c.Errf("serve_stale duration: %v", err)
	}
	if len(args) == 1 {
		return nil
	}
	rest := args[2:]
	switch strings.ToLower(args[1]) {
	case "immediate":
	case "verify":
		s.verify = true
		if len(rest) > 0 {
			if s.timeout, err = notNegative(rest[0]); err != nil {
				return c.Errf("serve_stale verify timeout: %v", err)
			}
			rest = rest[1:]
		}
	default:
		return c.Errf("serve_stale mode %q is neither immediate nor verify", args[1])
	}
	if len(rest) > 2 {
		return c.ArgErr()
	}
	if len(rest) > 0 {
		s.ttl, err = notNegative(rest[0])
		switch {
		case err != nil:
			return c.Errf("serve_stale response TTL: %v", err)
		case s.ttl%time.Second != 0:
			return c.Errf("serve_stale response TTL %s is not a whole number of seconds", rest[0])
		case s.ttl/time.Second > 1<<32-1:
			return c.Errf("serve_stale response TTL %s does not fit a TTL", rest[0])
		}
	}
	if len(rest) > 1 {
		s.recheck, err = notNegative(rest[1])
		switch {
		case err != nil:
			return c.Errf("serve_stale failure recheck: %v", err)
		case s.recheck > maxRecheck:
			return c.Errf("serve_stale failure recheck %s is over %s", rest[1], maxRecheck)
		}
	}
	return nil
}

var errNegative = errors.New("a duration may not be negative")

func notNegative(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err == nil && d < 0 {
		err = fmt.Errorf("%w: %s", errNegative, s)
	}
	return d, err
}

func parseServfail(c *caddy.Controller, args []string, life *time.Duration) error {
	if len(args) != 1 {
		return c.ArgErr()
	}
	d, err := notNegative(args[0])
	if err != nil {
		return c.Errf("servfail: %v", err)
	}
	if d > engine.MaxFailureTTL {
		return c.Errf("servfail %s is over %s, which RFC 2308 forbids", args[0], engine.MaxFailureTTL)
	}
	*life = d
	return nil
}

func parseDisable(c *caddy.Controller, args []string, opt *options) error {
	if len(args) == 0 {
		return c.ArgErr()
	}
	zones := []string{"."}
	if len(args) > 1 {
		zones = nil
		for _, a := range args[1:] {
			z := plugin.Name(a).Normalize()
			if z == "" {
				return c.Errf("disable: %q is no zone", a)
			}
			zones = append(zones, z)
		}
	}
	switch args[0] {
	case "success":
		opt.noSuccess = zones
	case "denial":
		opt.noDenial = zones
	default:
		return c.Errf("disable %q is neither success nor denial", args[0])
	}
	return nil
}

// parseTTL reads ZONE [TYPE...] MIN MAX.
func parseTTL(c *caddy.Controller, args []string, bounds *[]engine.Bound) error {
	if len(args) < 3 {
		return c.ArgErr()
	}
	zone, types, last := args[0], args[1:len(args)-2], args[len(args)-2:]
	if _, err := strconv.Atoi(zone); err == nil {
		return c.Errf("ttl: the zone is missing before %s; . is all", zone)
	}
	if plugin.Name(zone).Normalize() == "" {
		return c.Errf("ttl: %q is no zone", zone)
	}
	var least, most int
	for i, to := range [2]*int{&least, &most} {
		n, err := strconv.Atoi(last[i])
		if err != nil || n < 0 || n > maxTTLArg || i == 1 && n == 0 {
			return c.Errf("ttl: %q is not a number of seconds", last[i])
		}
		*to = n
	}
	numbers := []uint16{0}
	if len(types) > 0 {
		numbers = nil
		for _, s := range types {
			t, ok := dns.StringToType[strings.ToUpper(s)]
			if !ok || engine.MetaType(t) {
				return c.Errf("ttl: %q is no type of data", s)
			}
			numbers = append(numbers, t)
		}
	}
	for _, t := range numbers {
		*bounds = append(*bounds, engine.Bound{Zone: plugin.Name(zone).Normalize(), Type: t, Min: time.Duration(least) * time.Second, Max: time.Duration(most) * time.Second})
	}
	return nil
}

// minSnapshot is the shortest interval between snapshots: each writes all of the cache.
const minSnapshot = 10 * time.Second

// parseSnapshot reads an interval, or off.
func parseSnapshot(c *caddy.Controller, args []string, every *time.Duration) error {
	if len(args) != 1 {
		return c.ArgErr()
	}
	if args[0] == "off" {
		*every = 0
		return nil
	}
	d, err := time.ParseDuration(args[0])
	if err != nil || d < minSnapshot {
		return c.Errf("snapshot %q is neither off nor an interval of %s or more, such as 5m", args[0], minSnapshot)
	}
	*every = d
	return nil
}
