package names

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	"github.com/resolverd/resolverd/registry"
)

// Kind says what a name is by its form alone, before the registry is looked at.
type Kind uint8

// The kinds of name.
const (
	// KindOutside is not ours: it stands below the zone, but below none of its
	// categories.
	KindOutside Kind = iota
	// KindUnknown is ours and cannot exist, whatever is registered.
	KindUnknown
	// KindEmpty exists always and has no RRsets: an empty non-terminal (RFC 8020).
	KindEmpty
	// KindApex is the zone itself.
	KindApex
	// KindNS is the name of the zone's name server, "ns" below the apex.
	KindNS
	// KindService is a service, perhaps by tag, RFC 2782 form or named port.
	KindService
	// KindInstance is one instance of a service.
	KindInstance
	// KindInstances is what stands above a service's instances, an empty non-terminal
	// where the service exists.
	KindInstances
	// KindNode is a host.
	KindNode
	// KindAddr is an address written in hexadecimal.
	KindAddr
	// KindRole is the holder of a role.
	KindRole
)

var kindNames = [...]string{
	"outside", "unknown", "empty", "apex", "ns", "service", "instance", "instances", "node", "addr", "role",
}

func (k Kind) String() string { return kindNames[k] }

// Question is a QNAME as the grammar reads it. Names in it are lower-cased.
type Question struct {
	Kind Kind
	// Name is the service, node or role.
	Name string
	// Tag filters the instances; "" for all of them. May hold dots.
	Tag string
	// Label is the instance's.
	Label string
	// Port is a named port's name; "" for the default port.
	Port string
	// RFC2782 says that the name has the form `_service._proto`, which outside consul.
	// has SRV only.
	RFC2782 bool
	// SRVOnly says that the form is one that Consul reads in SRV queries only.
	SRVOnly bool
	// Tasks says that every instance is meant, also where the service has a virtual
	// address.
	Tasks bool
	// Short says that the name is `<service>.Z`: ours only if there is such a service.
	Short bool
	// Addr is the address of KindAddr.
	Addr netip.Addr
}

// The words of the grammar. They are reserved: no data centre can have such a name.
const (
	wordService  = "service"
	wordInstance = "instance"
	wordNode     = "node"
	wordAddr     = "addr"
	wordRole     = "role"
	wordDC       = "dc"
	wordNS       = "ns"
	tagTasks     = "tasks"
)

var categories = []string{wordService, wordInstance, wordNode, wordAddr, wordRole}

// consulOnly are the categories that Consul has and we have nothing for.
var consulOnly = []string{"query", "connect", "virtual", "ingress"}

// Reserved reports whether the word means something in the grammar, so that a data
// centre cannot be called so.
func Reserved(word string) bool {
	w := registry.Fold(word)
	return slices.Contains(categories, w) || slices.Contains(consulOnly, w) ||
		w == wordDC || w == wordNS || w == tagTasks
}

// Parse reads qname, in presentation form and any case. ok is false where qname is
// neither the zone's apex nor below it; the Question is then the zero one.
func (z *Zone) Parse(qname string) (q Question, ok bool) {
	labels, ok := z.below(qname)
	if !ok {
		return Question{}, false
	}
	if len(labels) == 0 {
		return Question{Kind: KindApex}, true
	}
	if len(labels) == 1 && labels[0] == wordNS && z.NS == "" {
		return Question{Kind: KindNS}, true
	}
	if z.Consul {
		return z.parseConsul(labels), true
	}
	return z.parseOwn(labels), true
}

// below returns the lower-cased labels of qname that stand left of the zone's.
func (z *Zone) below(qname string) ([]string, bool) {
	name := registry.Fold(dns.Fqdn(qname))
	if name == z.Origin {
		return nil, true
	}
	rest := name
	if z.Origin != "." {
		var ok bool
		if rest, ok = strings.CutSuffix(name, "."+z.Origin); !ok || strings.HasSuffix(rest, `\`) {
			return nil, false
		}
	}
	return dns.SplitDomainName(rest), true
}

// parseOwn reads [parts] category [dc "dc"], and short names.
func (z *Zone) parseOwn(labels []string) Question {
	n := len(labels)
	if labels[n-1] == wordDC {
		switch {
		case n == 1:
			return Question{Kind: KindEmpty}
		case !z.localDC(labels[n-2]):
			return Question{Kind: KindUnknown}
		case n == 2:
			return Question{Kind: KindEmpty}
		}
		labels = labels[:n-2]
		if q := z.category(labels); q.Kind != KindOutside {
			return q
		}
		// Below `<dc>.dc` there is nothing but ours.
		return Question{Kind: KindUnknown}
	}
	return z.category(labels)
}

// category reads [parts] category, or a short name.
func (z *Zone) category(labels []string) Question {
	last := labels[len(labels)-1]
	if slices.Contains(categories, last) {
		return z.parts(last, labels[:len(labels)-1])
	}
	if z.Short && len(labels) == 1 && registry.IsLabel(last) {
		return Question{Kind: KindService, Name: last, Short: true}
	}
	return Question{Kind: KindOutside}
}

// parseConsul reads names as Consul does: the first category word from the right, with
// `<dc>.dc` or the bare `<dc>` behind it.
func (z *Zone) parseConsul(labels []string) Question {
	for i := len(labels) - 1; i >= 0; i-- {
		word := labels[i]
		switch {
		case slices.Contains(categories, word):
			if !z.suffix(labels[i+1:]) {
				return Question{Kind: KindUnknown}
			}
			return z.parts(word, labels[:i])
		case slices.Contains(consulOnly, word):
			return Question{Kind: KindUnknown}
		case strings.HasPrefix(word, "_"):
			// The word "service" may be left out in SRV queries.
			if !z.suffix(labels[i+1:]) {
				return Question{Kind: KindUnknown}
			}
			q := z.service(labels[:i+1])
			q.SRVOnly = true
			return q
		}
	}
	switch {
	case z.suffix(labels), len(labels) == 1 && labels[0] == wordDC:
		return Question{Kind: KindEmpty}
	case z.Short && len(labels) == 1 && registry.IsLabel(labels[0]):
		return Question{Kind: KindService, Name: labels[0], Short: true}
	}
	return Question{Kind: KindUnknown}
}

// suffix reports whether what stands right of the category names our data centre.
func (z *Zone) suffix(labels []string) bool {
	switch len(labels) {
	case 0:
		return true
	case 1:
		return z.localDC(labels[0])
	case 2:
		return labels[1] == wordDC && z.localDC(labels[0])
	}
	return false
}

func (z *Zone) localDC(label string) bool { return label == registry.Fold(z.Datacenter) }

// parts reads what stands left of a category word.
func (z *Zone) parts(word string, parts []string) Question {
	if len(parts) == 0 {
		return Question{Kind: KindEmpty}
	}
	switch word {
	case wordService:
		return z.service(parts)
	case wordInstance:
		return instance(parts)
	case wordNode:
		return node(parts)
	case wordAddr:
		return address(parts)
	case wordRole:
		if len(parts) == 1 && registry.IsLabel(parts[0]) {
			return Question{Kind: KindRole, Name: parts[0]}
		}
	}
	return Question{Kind: KindUnknown}
}

// service reads service, tag.service, _service._proto and _port._proto.service.
func (z *Zone) service(parts []string) Question {
	for _, p := range parts {
		if !registry.IsLabel(p) {
			return Question{Kind: KindUnknown}
		}
	}
	n := len(parts)
	q := Question{Kind: KindService, Name: parts[n-1]}
	under := func(i int) bool { return len(parts[i]) > 1 && parts[i][0] == '_' }
	switch {
	case n == 1:
	case n == 2 && under(0) && under(1):
		q.RFC2782, q.Name = true, parts[0][1:]
		if parts[1] != "_tcp" {
			q.Tag = parts[1][1:]
		}
	case n == 2 && parts[0] == tagTasks && !z.Consul:
		q.Tasks = true
	case n == 3 && under(0) && (parts[1] == "_tcp" || parts[1] == "_udp") && !z.Consul:
		q.RFC2782, q.Port = true, parts[0][1:]
	default:
		q.Tag = strings.Join(parts[:n-1], ".")
	}
	return q
}

func instance(parts []string) Question {
	for _, p := range parts {
		if !registry.IsLabel(p) {
			return Question{Kind: KindUnknown}
		}
	}
	switch len(parts) {
	case 1:
		return Question{Kind: KindInstances, Name: parts[0]}
	case 2:
		return Question{Kind: KindInstance, Name: parts[1], Label: parts[0]}
	}
	return Question{Kind: KindUnknown}
}

func node(parts []string) Question {
	for _, p := range parts {
		if !registry.IsLabel(p) {
			return Question{Kind: KindUnknown}
		}
	}
	return Question{Kind: KindNode, Name: strings.Join(parts, ".")}
}

func address(parts []string) Question {
	if len(parts) == 1 && (len(parts[0]) == 8 || len(parts[0]) == 32) {
		if b, err := hex.DecodeString(parts[0]); err == nil {
			a, _ := netip.AddrFromSlice(b)
			return Question{Kind: KindAddr, Addr: a}
		}
	}
	return Question{Kind: KindUnknown}
}

// HexLabel returns the label of a under "addr": 8 or 32 hexadecimal digits.
func HexLabel(a netip.Addr) string { return hex.EncodeToString(a.AsSlice()) }

// ParseReverse reads the reverse name of an address (RFC 1035, section 3.5; RFC 3596,
// section 2.5), in any case. ok is false for anything else, a part of one included.
func ParseReverse(qname string) (a netip.Addr, ok bool) {
	name := registry.Fold(dns.Fqdn(qname))
	if rest, found := strings.CutSuffix(name, ".in-addr.arpa."); found {
		parts := strings.Split(rest, ".")
		if len(parts) != 4 {
			return netip.Addr{}, false
		}
		slices.Reverse(parts)
		a, err := netip.ParseAddr(strings.Join(parts, "."))
		return a, err == nil && a.Is4()
	}
	rest, found := strings.CutSuffix(name, ".ip6.arpa.")
	if !found || len(rest) != 63 {
		return netip.Addr{}, false
	}
	var text [32]byte
	for i := range text {
		text[i] = rest[62-2*i]
		if i > 0 && rest[63-2*i] != '.' {
			return netip.Addr{}, false
		}
	}
	var b [16]byte
	if _, err := hex.Decode(b[:], text[:]); err != nil {
		return netip.Addr{}, false
	}
	a = netip.AddrFrom16(b)
	return a, !a.Is4In6()
}
