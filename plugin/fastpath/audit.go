package fastpath

import (
	"fmt"
	"slices"

	"github.com/coredns/coredns/core/dnsserver"
)

// harmless are the plugins above the cache of which it was shown that a reply below them
// is the same for all queries of one key, and that who repeats it without asking them
// does what they would: they act on other queries, at start, or on what the handler here
// sees too. The order of directives makes the rest of the audit: plugins below cache and
// registry have no part in what those two share.
var harmless = []string{
	"resolverd_block",   // the loader's: by form, announced size and whether the client is on this host
	"metadata", "geoip", // fill a context that only others use
	"cancel",     // a deadline
	"nsid",       // acts on its EDNS option alone, which no plain query has
	"bufsize",    // lowers the announced size, which is in the key
	"debug",      //
	"bind",       //
	"ready",      //
	"health",     //
	"pprof",      //
	pluginName,   //
	"prometheus", // counted for it
	"errors",     // logs errors, and none is learnt
	"rrl",        // is asked for each repetition
	"horizon",    // client classes are in the key
	"local",      // shares nothing
	"any",        // shares nothing
	"chaos",      // shares nothing, and its class is in the key
	"registry", "cache",
}

// why are reasons better than "unknown".
var why = map[string]string{
	"loadbalance": "loadbalance reorders each reply",
	"acl":         "acl decides by client",
	"rewrite":     "rewrite may decide by client",
	"dns64":       "dns64 may decide by client",
	"siit":        "siit may decide by client",
	"tsig":        "tsig signs replies",
	"autopath":    "autopath decides by client",
	"view":        "view decides by anything, the client's port and the id among it",
	"shed":        "shed writes this listener's replies",
	"dynupdate":   "dynupdate takes updates on this listener",
}

// audit returns why nothing of the block may be learnt, or "", and notes who wants to be
// told of what is repeated.
func (b *block) audit() string {
	if b.written {
		return "fastpath off"
	}
	cfg, shares := b.configs[0], false
	for _, h := range cfg.Handlers() {
		name := h.Name()
		if below(name) {
			break
		}
		if name == "cache" || name == "registry" {
			shares = true
		}
		if w := watching(h); w != nil {
			if err := w.Watches(); err != nil {
				return err.Error()
			}
			b.watched = true
			if t, ok := w.(taps); ok {
				b.taps = t
			}
			continue
		}
		if !slices.Contains(harmless, name) {
			return reasonOf(name)
		}
	}
	if !shares {
		return "neither cache nor registry is in it"
	}
	return ""
}

func reasonOf(name string) string {
	if r := why[name]; r != "" {
		return r
	}
	return fmt.Sprintf("%s is not known to be harmless", name)
}

// below says whether the plugin stands below the cache.
func below(name string) bool {
	at := slices.Index(dnsserver.Directives, name)
	return at > slices.Index(dnsserver.Directives, "cache")
}

// audit returns why the listener has no fast path, or "".
func (l *listener) audit() string {
	if !l.plain() {
		return "not plain DNS"
	}
	if l.addr.Port() == 0 {
		return "the system chooses its port"
	}
	on := false
	for _, b := range l.blocks {
		if b.before != nil {
			return reasonOf("shed")
		}
		on = on || b.reason == ""
	}
	for _, cfg := range l.configs {
		switch {
		case cfg.ProxyProtoConnPolicy != nil:
			return "proxyproto names other clients than the packets do"
		case cfg.NumSockets > 1:
			return "multisocket spreads it over sockets already"
		}
		for _, name := range []string{"view", "dynupdate"} {
			if cfg.Handler(name) != nil {
				return reasonOf(name)
			}
		}
	}
	if !on {
		return "no block of it has a fast path"
	}
	return ""
}
