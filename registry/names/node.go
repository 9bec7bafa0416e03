package names

import (
	"maps"
	"slices"
	"strings"

	"github.com/miekg/dns"
	"github.com/resolverd/resolverd/registry"
)

// maxText is the longest character-string (RFC 1035, section 3.3).
const maxText = 255

// node answers a host: addresses, and its metadata as TXT.
func (m *maker) node() Answer {
	n := m.snap.Node(m.q.Name)
	if n == nil {
		if m.zone.aboveNodes(m.snap, m.q.Name) {
			return Answer{Status: NoData}
		}
		return Answer{Status: NoName}
	}
	return m.hosts(placeOfNode(n.Node), m.texts(n.Meta))
}

// parents are the names that stand above nodes whose names have dots.
type parents struct {
	index uint64 // the snapshot's NodesIndex
	nodes int    // and its number of nodes
	names map[string]struct{}
}

// aboveNodes reports whether name is an empty non-terminal: a node's name with dots in
// it ends in it. The set is made anew when nodes have changed, on the first name that
// is no node's.
func (z *Zone) aboveNodes(s *registry.Snapshot, name string) bool {
	_, nodes, _ := s.Counts()
	p := z.parents.Load()
	if p == nil || p.index != s.NodesIndex || p.nodes != nodes {
		p = &parents{index: s.NodesIndex, nodes: nodes, names: map[string]struct{}{}}
		for n := range s.Nodes() {
			if !strings.Contains(n.Name, ".") || !isName(n.Name) {
				continue
			}
			for up := registry.Fold(n.Name); ; {
				var dots bool
				if _, up, dots = strings.Cut(up, "."); !dots {
					break
				}
				p.names[up] = struct{}{}
			}
		}
		z.parents.Store(p)
	}
	_, above := p.names[name]
	return above
}

// texts returns metadata as TXT, one RR a pair, by key.
func (m *maker) texts(meta map[string]string) []dns.RR {
	var out []dns.RR
	for _, k := range slices.Sorted(maps.Keys(meta)) {
		out = append(out, &dns.TXT{Hdr: m.header(m.ask.Name, dns.TypeTXT), Txt: text(k, meta[k])})
	}
	return out
}

// text writes a pair after RFC 1464, section 2: key=value, with = and ` of the key, and
// blanks at its ends, behind a `. As in Consul, a key that starts with rfc1035- stands
// for the bare value.
func text(key, value string) []string {
	s := value
	if !strings.HasPrefix(registry.Fold(key), "rfc1035-") {
		s = quoteKey(key) + "=" + strings.ReplaceAll(value, "`", "``")
	}
	var out []string
	for len(s) > maxText {
		out = append(out, escape(s[:maxText]))
		s = s[maxText:]
	}
	return append(out, escape(s))
}

func quoteKey(key string) string {
	lead := len(key) - len(strings.TrimLeft(key, " \t"))
	tail := len(strings.TrimRight(key, " \t"))
	var b strings.Builder
	for i := range len(key) {
		if c := key[i]; c == '`' || c == '=' || i < lead || i >= tail {
			b.WriteByte('`')
		}
		b.WriteByte(key[i])
	}
	return b.String()
}

// escape writes s as miekg/dns wants character-strings, where a backslash escapes.
func escape(s string) string { return strings.ReplaceAll(s, `\`, `\\`) }
