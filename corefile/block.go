package corefile

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/coredns/caddy/caddyfile"
)

// Block is one server block.
type Block struct {
	// Keys are the zones as written, each perhaps with transport and port.
	Keys []string
	// Identity is a hash of the zones, the horizon and the directives that make answers:
	// what a cache or an upstream set of the block belongs to. An edit of `log` keeps it.
	Identity string

	place place
	uses  []use
}

// use is one directive with its arguments and its block, as written once.
type use struct {
	name   string
	tokens []caddyfile.Token // name first
	order  int               // line of the main file that it stands at or was imported at
}

// block splits what caddy grouped by directive into single uses, in the order of the
// file's lines as far as that is known.
func (l *Loaded) block(b caddyfile.ServerBlock) Block {
	names := make([]string, 0, len(b.Tokens))
	for name := range b.Tokens {
		names = append(names, name)
	}
	slices.Sort(names)
	out := Block{Keys: b.Keys}
	for _, name := range names {
		var uses []use
		nesting := 0
		for i, t := range b.Tokens[name] {
			if i == 0 || nesting == 0 && t.Text != "{" && !sameLine(b.Tokens[name][i-1], t) {
				u := use{name: name}
				if t.File == "" {
					u.order = t.Line
				}
				if n := len(uses); n > 0 { // uses of one directive never change places
					u.order = max(u.order, uses[n-1].order)
				}
				t.Text = name // caddy leaves a variable in the directive's own name
				uses = append(uses, u)
			}
			switch t.Text {
			case "{":
				nesting++
			case "}":
				nesting--
			}
			u := &uses[len(uses)-1]
			u.tokens = append(u.tokens, t)
		}
		out.uses = append(out.uses, uses...)
	}
	slices.SortStableFunc(out.uses, func(a, b use) int { return a.order - b.order })
	return out
}

// sameLine says whether b stands on the line on which a ends, as caddy's Dispenser
// sees it.
func sameLine(a, b caddyfile.Token) bool {
	return a.File == b.File && a.Line+strings.Count(a.Text, "\n") == b.Line
}

// neutral are the directives that change no answer that a cache below them would keep:
// they carry, count, admit or dress it. `cache` itself is among them, for its answers
// stay right under other bounds.
var neutral = []string{
	blockDirective, "acl", "any", "bind", "bufsize", "cache", "cancel", "chaos", "debug", "dnstap", "errors", "fastpath",
	"grpc_server", "health", "https", "https3", "loadbalance", "local", "log", "loop", "metadata",
	"multisocket", "nsid", "pprof", "prometheus", "proxyproto", "quic", "ready", "reload",
	"rrl", "shed", "timeouts", "tls", "tsig",
}

// identity hashes what makes the block's answers, apart from the order of different
// directives and of zones.
func (b *Block) identity() string {
	var parts []string
	for _, k := range b.Keys {
		parts = append(parts, "zone\x00"+strings.ToLower(k))
	}
	slices.Sort(parts)
	byName := map[string]string{}
	for _, u := range b.uses {
		if slices.Contains(neutral, u.name) {
			continue
		}
		tokens := u.tokens
		if u.name == "horizon" && len(tokens) > 2 {
			tokens = tokens[:2] // which clients come here does not change what they are told
		}
		var s strings.Builder
		for i, t := range tokens {
			sep := "\x00"
			if i > 0 && !sameLine(tokens[i-1], t) {
				sep = "\x01"
			}
			s.WriteString(sep + t.Text)
		}
		byName[u.name] += s.String() + "\x02"
	}
	var names []string
	for n := range byName {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		parts = append(parts, "use"+byName[n])
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x03")))
	return hex.EncodeToString(sum[:12])
}
