package forward

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/dnstap"

	engine "github.com/resolverd/resolverd/forward"
	"github.com/resolverd/resolverd/internal/hostnet"
	"github.com/resolverd/resolverd/internal/resident"
)

func init() { plugin.Register("forward", setup) }

func setup(c *caddy.Controller) error {
	stanzas, err := parse(c)
	if err != nil {
		return plugin.Error("forward", err)
	}
	config := dnsserver.GetConfig(c)
	host, err := addresses()
	if err != nil {
		return plugin.Error("forward", err)
	}
	var handlers []*Forward
	for _, s := range stanzas {
		h, err := s.open(listenersOf(config, host), host)
		if err != nil {
			return plugin.Error("forward", err)
		}
		handlers = append(handlers, h)
	}
	for i, h := range handlers {
		config.AddPlugin(func(next plugin.Handler) plugin.Handler {
			h.Next = next
			if i < len(handlers)-1 {
				h.Next = handlers[i+1]
			}
			return h
		})
	}
	c.OnStartup(func() error {
		registerMetrics()
		taps, relays := tapsOf(config.Handler("dnstap")), relayingOf(config, len(handlers))
		for _, h := range handlers {
			h.taps, h.relaying = taps, relays
			h.pool.Start()
			h.warnLoops()
		}
		return nil
	})
	return nil
}

// tapsOf returns the dnstap handlers of a block, which follow each other in the chain.
func tapsOf(h plugin.Handler) []*dnstap.Dnstap {
	var taps []*dnstap.Dnstap
	for {
		t, ok := h.(*dnstap.Dnstap)
		if !ok || t == nil {
			return taps
		}
		taps = append(taps, t)
		h = t.Next
	}
}

// open takes the stanza's pool from the residents and makes its handler.
func (s *stanza) open(own listeners, host *hostnet.Follower) (*Forward, error) {
	o := s.options
	o.Ours = ofProcess(host)
	o.Observer = metrics
	o.Log = slog.Default()
	pool, err := resident.Get("forward", s.key(), func() (*engine.Pool, error) { return engine.Open(o) })
	if err != nil {
		// The parser knows its own words better than the engine's prefix.
		return nil, errors.New(strings.TrimPrefix(err.Error(), "forward: "))
	}
	h := &Forward{
		from: s.from, except: s.except, next: s.next, nextOnNodata: s.nextOnNodata, links: s.links,
		pool: pool, own: own, loops: own.leadsBack, log: o.Log,
	}
	h.limit.Max = s.maxConcurrent
	return h, nil
}

// key names the pool among the residents: two stanzas that would ask the same upstreams
// in the same way share one, so that what one learns of an upstream helps the other.
func (s *stanza) key() string {
	o := s.options
	var b strings.Builder
	for _, src := range o.Sources {
		if src.Backup {
			b.WriteString("backup ")
		}
		if src.File != "" {
			fmt.Fprintf(&b, "file %q ", src.File)
			continue
		}
		if src.Host != "" {
			fmt.Fprintf(&b, "host %q port %d at %v ", src.Host, src.Endpoint.Addr.Port(), o.Bootstrap)
		}
		fmt.Fprintf(&b, "%s ", src.Endpoint)
	}
	fmt.Fprintf(&b, "policy=%s tcp=%t udp=%t expire=%s age=%s idle=%d read=%s fails=%d attempts=%d doh=%s failfast=%t failover=%v source=%s hedge=%v mix=%t probe=%s,%q,%t tls=%s,%q",
		o.Policy, o.ForceTCP, o.PreferUDP, o.Expire, o.MaxAge, o.MaxIdle, o.ReadTimeout, o.MaxFails, o.MaxAttempts,
		o.DoHMethod, o.FailFast, o.Failover, o.SourceAddr, o.Hedge, o.MixCase, o.ProbeInterval, o.ProbeName, o.ProbeNoRecursion,
		s.tlsDigest, s.serverName)
	return b.String()
}
