package corefile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// elsewhere are the plugins that people meet in Corefiles and that this build leaves
// out, with where they are and what serves instead.
var elsewhere = map[string]string{
	"azure":        "it answers from Azure DNS; run stock CoreDNS beside and `forward` the zone to it",
	"clouddns":     "it answers from Google Cloud DNS; run stock CoreDNS beside and `forward` the zone to it",
	"k8s_external": "it answers from a Kubernetes API; run stock CoreDNS beside and `forward` the zone to it",
	"kubernetes":   "it answers from a Kubernetes API; run stock CoreDNS beside and `forward` the cluster's zone to it",
	"on":           "it executes commands, which the process that parses strangers' packets never does; use the service manager's ExecStartPost",
	"nomad":        "it answers from HashiCorp Nomad; `forward` the zone to a stock CoreDNS",
	"route53":      "it answers from AWS Route 53; run stock CoreDNS beside and `forward` the zone to it",
	"trace":        "its tracing client is large; `dnstap` and `log` show single queries",
}

// external are plugins of others, from the list on coredns.io.
var external = map[string]string{
	"alias": "", "alternate": "`forward` has failover", "amazondns": "", "ads": "", "blocklist": "use `hosts`, `template` or `acl`",
	"dns64": "", "docker": "", "dockerdiscovery": "registrations take its place", "ens": "", "fallback": "`forward` has failover",
	"fanout": "`forward` asks several upstreams", "finalize": "", "gslb": "", "git": "", "idetcd": "", "ipin": "", "ipset": "", "k8s_gateway": "",
	"kubernetai": "", "lighthouse": "", "mdns": "", "meship": "", "multicluster": "", "mysql": "", "netbox": "", "nomad": "",
	"pdsql": "", "proxy": "it left CoreDNS in 1.5: use `forward`", "records": "use `hosts`, `file` or `template`", "recursor": "use `forward` to a recursive resolver",
	"redis": "", "redisc": "", "rrl": "", "split": "use `horizon`", "tailscale": "", "unbound": "use `forward` to an unbound", "warnlist": "", "wgsd": "",
	"federation": "it left CoreDNS in 1.7", "upstream": "it left CoreDNS in 1.4: take the line out", "startup": "it left CoreDNS in 1.0", "shutdown": "it left CoreDNS in 1.0",
}

// LeftOut returns the plugins of stock CoreDNS that this build does not carry, sorted.
func LeftOut() []string { return slices.Sorted(maps.Keys(elsewhere)) }

// unknown returns a fault for every directive that this build does not have.
func (l *Loaded) unknown() Faults {
	var faults Faults
	for _, b := range l.Blocks {
		for _, u := range b.uses {
			if u.name != blockDirective && slices.Contains(directives, u.name) {
				continue
			}
			p := l.at(u.tokens[0])
			f := &Fault{File: p.file, Line: p.line}
			if why, ok := elsewhere[u.name]; ok {
				f.Text = fmt.Sprintf("plugin %q of stock CoreDNS is not in this build", u.name)
				f.Hint = u.name + ": " + why
			} else if why, ok := external[u.name]; ok {
				f.Text = fmt.Sprintf("plugin %q is not in this build, nor in stock CoreDNS", u.name)
				f.Hint = u.name + ": an external plugin, see https://coredns.io/explugins"
				if why != "" {
					f.Hint = u.name + ": " + why
				}
			} else {
				f.Text = fmt.Sprintf("unknown directive %q", u.name)
				if near := nearest(u.name, Directives()); near != "" {
					f.Hint = fmt.Sprintf("did you mean %q?", near)
				} else {
					f.Hint = "`resolverd version --json` lists the plugins of this build"
				}
			}
			// A snippet with a fault is found wherever it is imported.
			if !slices.ContainsFunc(faults, func(g *Fault) bool { return *g == *f }) {
				faults = append(faults, f)
			}
		}
	}
	return faults
}

// nearest returns the word of list that is the fewest edits away, or "" where none is
// within a third of the word.
func nearest(word string, list []string) string {
	word = strings.ToLower(word)
	best, least := "", len(word)/3+1
	for _, d := range list {
		if n := edits(word, d); n <= least && (n < least || best == "") {
			best, least = d, n
		}
	}
	return best
}

// edits is the number of insertions, deletions, replacements and exchanges of
// neighbours that turn a into b (optimal string alignment).
func edits(a, b string) int {
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next := make([]int, len(b)+1)
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
