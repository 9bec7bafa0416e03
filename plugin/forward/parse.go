package forward

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	pkgtls "github.com/coredns/coredns/plugin/pkg/tls"
	"github.com/miekg/dns"

	engine "github.com/resolverd/resolverd/forward"
)

const (
	// maxTargets is how many TOs a stanza may name.
	maxTargets = 15
	// minProbe is the shortest pause between probes that is honoured.
	minProbe = 50 * time.Millisecond
)

// stanza is one forward directive as written.
type stanza struct {
	from   string
	except []string
	// next are RCODEs, and nextOnNodata NODATA, that the next forward is asked after.
	next          []int
	nextOnNodata  bool
	links         []link
	maxConcurrent int64
	resolver      []netip.AddrPort
	backup        []string // TOs of backups
	serverName    string   // tls_servername
	tlsDigest     string   // of the files that tls names
	options       engine.Options
}

func parse(c *caddy.Controller) ([]*stanza, error) {
	var all []*stanza
	for c.Next() {
		s, err := parseStanza(c)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func parseStanza(c *caddy.Controller) (*stanza, error) {
	s := &stanza{options: engine.Default()}
	if !c.NextArg() {
		return nil, c.ArgErr()
	}
	zones := plugin.Host(c.Val()).NormalizeExact()
	if len(zones) == 0 {
		return nil, c.Errf("unable to normalize '%s'", c.Val())
	}
	s.from = zones[0]
	if len(zones) > 1 {
		log.Warningf("Unsupported CIDR notation: '%s' expands to multiple zones. Using only '%s'.", c.Val(), s.from)
	}
	to := c.RemainingArgs()
	if len(to) == 0 {
		return nil, c.ArgErr()
	}
	for c.NextBlock() {
		if err := s.property(c); err != nil {
			return nil, err
		}
	}
	if o := &s.options; o.MaxAge > 0 && o.MaxAge < o.Expire {
		return nil, c.Errf("max_age (%s) must not be less than expire (%s)", o.MaxAge, o.Expire)
	}
	if n := len(to) + len(s.backup); n > maxTargets {
		return nil, c.Errf("more than %d TOs configured: %d", maxTargets, n)
	}
	hosts := map[string][]netip.Addr{}
	sources, err := parseTargets(to, s.serverName, s.resolver, hosts)
	if err != nil {
		return nil, c.Err(err.Error())
	}
	if len(s.backup) > 0 {
		more, err := parseTargets(s.backup, s.serverName, s.resolver, hosts)
		if err != nil {
			return nil, c.Errf("backup: %s", err)
		}
		for _, b := range more {
			if slices.Contains(sources, b) {
				return nil, c.Errf("backup: %s is an upstream already", b.Endpoint)
			}
			b.Backup = true
			sources = append(sources, b)
		}
	}
	s.options.Sources = sources
	if len(hosts) > 0 {
		s.options.Hosts, s.options.Bootstrap = hosts, s.bootstrap()
	}
	if s.serverName != "" {
		for i := range sources {
			if e := &sources[i].Endpoint; sources[i].File == "" && e.Transport != engine.Plain {
				e.ServerName = s.serverName
			}
		}
	}
	if err := s.options.Validate(); err != nil {
		return nil, c.Err(strings.TrimPrefix(err.Error(), "forward: "))
	}
	return s, nil
}

// systemResolvers is who is asked for host names where no resolver is written.
const systemResolvers = "/etc/resolv.conf"

// bootstrap returns who is asked when a host name's addresses are due.
func (s *stanza) bootstrap() []engine.Source {
	if len(s.resolver) == 0 {
		return []engine.Source{{File: systemResolvers}}
	}
	var all []engine.Source
	for _, r := range s.resolver {
		all = append(all, engine.Source{Endpoint: engine.Endpoint{Addr: r}})
	}
	return all
}

// property parses one line of the block.
func (s *stanza) property(c *caddy.Controller) error {
	o := &s.options
	name := c.Val()
	switch name {
	case "except":
		names := c.RemainingArgs()
		if len(names) == 0 {
			return c.ArgErr()
		}
		for _, n := range names {
			zones := plugin.Host(n).NormalizeExact()
			if len(zones) == 0 {
				return c.Errf("unable to normalize '%s'", n)
			}
			s.except = append(s.except, zones...)
		}
	case "force_tcp":
		o.ForceTCP = true
		return noArgs(c)
	case "prefer_udp":
		o.PreferUDP = true
		return noArgs(c)
	case "mix_case":
		o.MixCase = true
		return noArgs(c)
	case "next_on_nodata":
		s.nextOnNodata = true
		return noArgs(c)
	case "failfast_all_unhealthy_upstreams":
		o.FailFast = true
		return noArgs(c)
	case "max_fails":
		n, err := number(c, 32)
		o.MaxFails = uint32(n)
		return err
	case "max_connect_attempts":
		n, err := number(c, 32)
		if o.MaxAttempts = int(n); n == 0 {
			o.MaxAttempts = -1
		}
		return err
	case "max_idle_conns":
		n, err := number(c, 31)
		o.MaxIdle = int(n)
		return err
	case "max_concurrent":
		n, err := number(c, 63)
		s.maxConcurrent = int64(n)
		return err
	case "expire":
		return duration(c, &o.Expire, 0)
	case "max_age":
		return duration(c, &o.MaxAge, 0)
	case "read_timeout":
		return duration(c, &o.ReadTimeout, 1)
	case "health_check":
		return s.healthCheck(c)
	case "policy":
		if !c.NextArg() {
			return c.ArgErr()
		}
		p, err := engine.ParsePolicy(c.Val())
		if err != nil {
			return c.Err(err.Error())
		}
		o.Policy = p
		return noArgs(c)
	case "backup":
		to := c.RemainingArgs()
		if len(to) == 0 {
			return c.ArgErr()
		}
		s.backup = append(s.backup, to...)
	case "hedge":
		return s.hedge(c)
	case "doh_method":
		if !c.NextArg() {
			return c.ArgErr()
		}
		if o.DoHMethod = c.Val(); o.DoHMethod != http.MethodPost && o.DoHMethod != http.MethodGet {
			return c.Errf("doh_method must be either %s or %s", http.MethodPost, http.MethodGet)
		}
		return noArgs(c)
	case "tls":
		return s.tls(c)
	case "tls_servername":
		if !c.NextArg() {
			return c.ArgErr()
		}
		s.serverName = c.Val()
		return noArgs(c)
	case "next":
		codes, err := rcodes(c)
		s.next = append(s.next, codes...)
		return err
	case "chain":
		l, err := parseLink(c)
		s.links = append(s.links, l)
		return err
	case "failover":
		return s.failover(c)
	case "source_address":
		if !c.NextArg() {
			return c.ArgErr()
		}
		a, err := netip.ParseAddr(c.Val())
		if err != nil {
			return c.Errf("invalid IP address: %s", c.Val())
		}
		o.SourceAddr = a.Unmap()
		return noArgs(c)
	case "resolver":
		args := c.RemainingArgs()
		if len(args) == 0 {
			return c.ArgErr()
		}
		s.resolver = nil
		for _, a := range args {
			ap, ok := parseAddrPort(a, engine.Plain.DefaultPort())
			if !ok {
				return c.Errf("resolver must be an IP address or IP:port: %q", a)
			}
			s.resolver = append(s.resolver, ap)
		}
	default:
		return c.Errf("unknown property '%s'", name)
	}
	return nil
}

// defaultHedge is how many queries more hedging may cost, as a share.
const defaultHedge = 0.05

// hedge parses the bound on the queries that hedging adds: a percentage, or nothing.
func (s *stanza) hedge(c *caddy.Controller) error {
	s.options.Hedge = defaultHedge
	if !c.NextArg() {
		return nil
	}
	n, err := strconv.ParseFloat(strings.TrimSuffix(c.Val(), "%"), 64)
	if err != nil || !(n > 0 && n <= 100) {
		return c.Errf("hedge: not a percentage above 0: %s", c.Val())
	}
	s.options.Hedge = n / 100
	return noArgs(c)
}

func (s *stanza) healthCheck(c *caddy.Controller) error {
	o := &s.options
	if !c.NextArg() {
		return c.ArgErr()
	}
	d, err := time.ParseDuration(c.Val())
	if err != nil {
		return c.Err(err.Error())
	}
	if d < 0 {
		return c.Errf("health_check can't be negative: %s", d)
	}
	o.ProbeInterval = max(d, minProbe)
	o.ProbeName = "."
	for c.NextArg() {
		switch c.Val() {
		case "no_rec":
			o.ProbeNoRecursion = true
		case "domain":
			if !c.NextArg() {
				return c.ArgErr()
			}
			if _, ok := dns.IsDomainName(c.Val()); !ok {
				return c.Errf("health_check: invalid domain name %s", c.Val())
			}
			o.ProbeName = plugin.Name(c.Val()).Normalize()
		default:
			return c.Errf("health_check: unknown option %s", c.Val())
		}
	}
	return nil
}

// failover replaces the default RCODEs by those written; "none" is ours, and leaves
// every reply as it comes.
func (s *stanza) failover(c *caddy.Controller) error {
	args := c.RemainingArgs()
	if len(args) == 1 && args[0] == "none" {
		s.options.Failover = nil
		return nil
	}
	codes, err := parseRcodes(c, args)
	if err != nil {
		return err
	}
	for _, code := range codes {
		if code == dns.RcodeSuccess {
			return c.Err("NoError cannot be used in failover")
		}
	}
	s.options.Failover = codes
	return nil
}

// tls reads certificates; their contents are part of the pool's key, so that a reload
// takes up new ones.
func (s *stanza) tls(c *caddy.Controller) error {
	args := c.RemainingArgs()
	if len(args) > 3 {
		return c.ArgErr()
	}
	root := dnsserver.GetConfig(c).Root
	sum := sha256.New()
	for i, name := range args {
		if !filepath.IsAbs(name) && root != "" {
			args[i] = filepath.Join(root, name)
		}
		if err := digest(sum, args[i]); err != nil {
			return c.Err(err.Error())
		}
	}
	var (
		cfg *tls.Config
		err error
	)
	if cfg, err = pkgtls.NewTLSConfigFromArgs(args...); err != nil {
		return c.Err(err.Error())
	}
	s.options.TLS = cfg
	s.tlsDigest = fmt.Sprintf("%d:%s", len(args), hex.EncodeToString(sum.Sum(nil)))
	return nil
}

// digest adds a file to sum.
func digest(sum io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(sum, io.LimitReader(f, 1<<20))
	fmt.Fprintf(sum, "|%d|", n)
	return err
}

func noArgs(c *caddy.Controller) error {
	if c.NextArg() {
		return c.ArgErr()
	}
	return nil
}

// number parses the one argument, which must not be negative.
func number(c *caddy.Controller, bits int) (uint64, error) {
	name := c.Val()
	if !c.NextArg() {
		return 0, c.ArgErr()
	}
	if strings.HasPrefix(c.Val(), "-") {
		if _, err := strconv.ParseInt(c.Val(), 10, 64); err == nil {
			return 0, c.Errf("%s: invalid value, can't be negative: %s", name, c.Val())
		}
	}
	n, err := strconv.ParseUint(c.Val(), 10, bits)
	if err != nil {
		return 0, c.Errf("%s: invalid number: %s", name, c.Val())
	}
	return n, noArgs(c)
}

// duration parses the one argument, at least least.
func duration(c *caddy.Controller, into *time.Duration, least time.Duration) error {
	name := c.Val()
	if !c.NextArg() {
		return c.ArgErr()
	}
	d, err := time.ParseDuration(c.Val())
	switch {
	case err != nil:
		return c.Err(err.Error())
	case d < least && least > 0:
		return c.Errf("%s must be positive: %s", name, d)
	case d < 0:
		return c.Errf("%s can't be negative: %s", name, d)
	}
	*into = d
	return noArgs(c)
}

func rcodes(c *caddy.Controller) ([]int, error) { return parseRcodes(c, c.RemainingArgs()) }

func parseRcodes(c *caddy.Controller, args []string) ([]int, error) {
	if len(args) == 0 {
		return nil, c.ArgErr()
	}
	var codes []int
	for _, a := range args {
		code, ok := dns.StringToRcode[strings.ToUpper(a)]
		if !ok {
			return nil, c.Errf("%s is not a valid rcode", a)
		}
		codes = append(codes, code)
	}
	return codes, nil
}
