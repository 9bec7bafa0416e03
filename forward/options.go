package forward

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
)

const (
	// MaxSources is how many upstreams and files one pool may name.
	MaxSources = 256
	// mostAttempts bounds the attempts for one query that Options leaves unbounded.
	mostAttempts = 64
)

// Source is where upstreams come from: one endpoint, or a file.
type Source struct {
	// Endpoint is used where File is "".
	Endpoint Endpoint
	// File is a resolv.conf: its nameserver lines are plain upstreams on port 53, and it
	// is followed as it changes. It need not exist.
	File string
	// Host, if File is "", is a host name, absolute and in lower case, whose addresses are
	// the upstreams: transport, port and server name are Endpoint's. It is looked up again
	// when the TTL of its addresses is over; while it cannot be, they stay.
	Host string
	// Backup sets the upstreams apart: they are asked first only while no other is Up.
	Backup bool
}

// Options says how a [Pool] works. Start from [Default].
type Options struct {
	// Name says in log lines whose pool it is.
	Name string
	// Sources are the upstreams in the order written, 1 to [MaxSources].
	Sources []Source
	// Hosts are the addresses that are known of each Source.Host at the start, and Bootstrap
	// is who is asked for them later: endpoints and files, of which at least one if there
	// is a Host.
	Hosts     map[string][]netip.Addr
	Bootstrap []Source
	// Policy orders the healthy upstreams.
	Policy Policy

	// ForceTCP asks plain upstreams over TCP always; PreferUDP over UDP also for a client
	// that came over TCP. ForceTCP wins. Without either the client's transport is used.
	ForceTCP, PreferUDP bool
	// Expire is how long an unused connection is kept; 0 keeps none. MaxAge, if not 0, is
	// how long any is kept, and is not less than Expire. MaxIdle bounds the idle
	// connections of a kind to an upstream, 0 means 256, which is the most.
	Expire, MaxAge time.Duration
	MaxIdle        int
	// ReadTimeout is how long one upstream's reply is waited for, Budget the whole
	// exchange. Both above 0.
	ReadTimeout, Budget time.Duration
	// MaxAttempts bounds the attempts for one query that end without a reply: 0 means
	// twice the number of upstreams, below 0 as many as the budget allows, yet not over 64
	// where there are fewer than 32 upstreams.
	MaxAttempts int
	// Failover are the RCODEs after which the next upstream is asked. NOERROR is invalid.
	Failover []int
	// MixCase draws the case of the letters in each query's name (known as 0x20), which
	// the reply must repeat. An upstream that does not is asked over TCP.
	MixCase bool
	// Hedge is how many queries more the upstreams may get, as a share, so that a slow
	// reply need not be waited for: after the time that 95 of 100 replies take the next
	// upstream is asked too. 0 to 1; 0 does without.
	Hedge float64
	// EDNSSize is the largest UDP reply that is asked for, 512 to 65535.
	EDNSSize uint16
	// SourceAddr, if valid, is the address that queries come from.
	SourceAddr netip.Addr

	// TLS is the configuration for TLS, HTTPS and QUIC; nil is Go's default with the
	// system's authorities. It is cloned, an endpoint's ServerName goes before its own.
	TLS *tls.Config
	// DoHMethod is POST or GET.
	DoHMethod string

	// MaxFails is how many failed probes in a row are borne: one more and the upstream is
	// [Down]. 0 does without health.
	MaxFails uint32
	// CountQueries counts a failed query like a failed probe, so that an upstream that is
	// away is known sooner.
	CountQueries bool
	// FailFast fails a query when all upstreams are down, rather than asking any.
	FailFast bool
	// ProbeInterval is the pause between probes of an upstream that is not [Up];
	// ProbeTimeout bounds one. Both above 0.
	ProbeInterval, ProbeTimeout time.Duration
	// ProbeName is the name whose NS a probe asks for, in presentation form, absolute.
	ProbeName string
	// ProbeNoRecursion clears RD in probes.
	ProbeNoRecursion bool

	// Ours says of an address and port whether this process listens there: what a file
	// names of ours is left out. Nil: nothing is. It is called by several goroutines.
	Ours func(netip.AddrPort) bool
	// Observer is told what happens; nil: nobody.
	Observer Observer
	// Log gets changes of health and of files, never a line per query; nil discards.
	Log *slog.Logger

	// connect replaces the transports, in tests.
	connect func(Endpoint) (first, tcp transport)
	// resolve replaces the bootstrap, in tests.
	resolve func(context.Context, *dns.Msg) (*dns.Msg, error)
}

// Default returns the options of a forward directive without a block. Sources is empty.
func Default() Options {
	return Options{
		Name:          "forward",
		Expire:        10 * time.Second,
		ReadTimeout:   2 * time.Second,
		Budget:        5 * time.Second,
		Failover:      []int{dns.RcodeServerFailure, dns.RcodeRefused},
		EDNSSize:      DefaultEDNSSize,
		DoHMethod:     http.MethodPost,
		MaxFails:      2,
		ProbeInterval: 500 * time.Millisecond,
		ProbeTimeout:  time.Second,
		ProbeName:     ".",
	}
}

// Validate reports all that is wrong with o, or nil.
func (o *Options) Validate() error {
	var errs []error
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf("forward: "+format, args...))
		}
	}
	bad(len(o.Sources) == 0, "no upstreams")
	bad(len(o.Sources) > MaxSources, "more than %d upstreams: %d", MaxSources, len(o.Sources))
	for _, s := range o.Sources {
		bad(s.Host != "" && len(o.Bootstrap) == 0 && o.resolve == nil, "nobody to look up %s", s.Host)
		if s.Host != "" && s.File == "" {
			bad(s.Endpoint.Addr.Port() == 0, "no port for %s", s.Host)
			continue
		}
		bad(s.File == "" && (!s.Endpoint.Addr.IsValid() || s.Endpoint.Addr.Port() == 0),
			"invalid upstream %s", s.Endpoint)
	}
	bad(o.Expire < 0, "expire can't be negative: %s", o.Expire)
	bad(o.MaxAge < 0, "max_age can't be negative: %s", o.MaxAge)
	bad(o.MaxAge > 0 && o.MaxAge < o.Expire, "max_age (%s) must not be less than expire (%s)", o.MaxAge, o.Expire)
	bad(o.MaxIdle < 0, "max_idle_conns can't be negative: %d", o.MaxIdle)
	bad(o.ReadTimeout <= 0, "read_timeout must be positive: %s", o.ReadTimeout)
	bad(o.Budget <= 0, "budget must be positive: %s", o.Budget)
	bad(slices.Contains(o.Failover, dns.RcodeSuccess), "NoError cannot be used in failover")
	bad(o.Hedge < 0 || o.Hedge > 1, "hedge must be a share from 0 to 1: %v", o.Hedge)
	bad(o.EDNSSize < dns.MinMsgSize, "EDNS size below %d: %d", dns.MinMsgSize, o.EDNSSize)
	bad(o.DoHMethod != http.MethodPost && o.DoHMethod != http.MethodGet, "doh_method must be either POST or GET")
	bad(o.ProbeInterval <= 0 || o.ProbeTimeout <= 0, "health_check must be positive: %s", o.ProbeInterval)
	_, ok := dns.IsDomainName(o.ProbeName)
	bad(!ok || !dns.IsFqdn(o.ProbeName), "health_check: invalid domain name %s", o.ProbeName)
	return errors.Join(errs...)
}

// attempts returns how many attempts may fail for one query, with n upstreams.
func (o *Options) attempts(n int) int {
	switch {
	case o.MaxAttempts > 0:
		return o.MaxAttempts
	case o.MaxAttempts == 0:
		return 2 * n
	}
	return max(2*n, mostAttempts)
}
