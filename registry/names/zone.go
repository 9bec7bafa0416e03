package names

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"github.com/resolverd/resolverd/registry"
)

// MaxOrigin is the longest zone name in octets of presentation form: a label, a
// service, a category and a data centre must still fit in front of it (255 octets in
// all, RFC 1035, section 2.3.4).
const MaxOrigin = 100

// MaxTTL bounds the TTLs that a zone may be given.
const MaxTTL = 7 * 24 * time.Hour

// DefaultTTL is the TTL, and the negative TTL, of a zone that sets none.
const DefaultTTL = 5 * time.Second

// DefaultDatacenter is the data centre's name where none is set, Consul's.
const DefaultDatacenter = "dc1"

// Zone is a zone in which the registry is answered, with its settings. Once in use it
// must not be changed; it may then be used by any number of goroutines.
type Zone struct {
	// Origin is the apex, lower-case, with the final dot.
	Origin string
	// Consul says that names are read and answered as Consul does.
	Consul bool
	// Datacenter is our own data centre's name, one label.
	Datacenter string

	// TTL and NegativeTTL are by service name; the default is the zone's own and counts
	// for nodes, addresses and all other names. Whole seconds, 0 to MaxTTL.
	TTL, NegativeTTL Rules[time.Duration]
	// OnlyPassing leaves out instances that a check warns of.
	OnlyPassing Rules[bool]
	// LastGood answers a service of which every instance is critical with those that
	// were good before; otherwise it is NXDOMAIN.
	LastGood Rules[bool]

	// Exclusive makes the zone ours as a whole. A Consul zone always is.
	Exclusive bool
	// Short answers `<service>.Z`.
	Short bool
	// OmitDraining takes instances with weight 0 out of SRV.
	OmitDraining bool

	// NS is the name in the zone's NS RRset and SOA; "" for `ns.Z`, which is then
	// answered with the address that was asked. Mbox is the SOA's RNAME; "" for
	// `hostmaster.Z`.
	NS, Mbox string

	parents atomic.Pointer[parents] // see aboveNodes
}

// NewZone returns the zone with the default settings; the zone consul. is Consul's.
func NewZone(origin string) (*Zone, error) {
	o := registry.Fold(dns.Fqdn(origin))
	if _, ok := dns.IsDomainName(o); !ok || strings.ContainsAny(o, `\"`) {
		return nil, fmt.Errorf("names: %q is no zone name", origin)
	}
	if len(o) > MaxOrigin {
		return nil, fmt.Errorf("names: zone %q is longer than %d octets, which leaves no room for names", origin, MaxOrigin)
	}
	z := &Zone{Origin: o, Consul: o == "consul.", Datacenter: DefaultDatacenter}
	z.TTL.Default, z.NegativeTTL.Default = DefaultTTL, DefaultTTL
	return z, nil
}

// Validate reports every setting that is out of bounds.
func (z *Zone) Validate() error {
	var errs []error
	for name, r := range map[string]*Rules[time.Duration]{"ttl": &z.TTL, "negative_ttl": &z.NegativeTTL} {
		r.each(func(of string, d time.Duration) {
			if d < 0 || d > MaxTTL || d%time.Second != 0 {
				errs = append(errs, fmt.Errorf("names: %s of %s is %s: whole seconds up to %s", name, of, d, MaxTTL))
			}
		})
	}
	if !registry.IsLabel(z.Datacenter) || Reserved(z.Datacenter) {
		errs = append(errs, fmt.Errorf("names: %q cannot be a data centre's name", z.Datacenter))
	}
	return errors.Join(errs...)
}

// Rules gives a value by service name: an exact name, a prefix ending in *, or *; the
// longest wins. The zero Rules gives the zero value for all.
type Rules[T any] struct {
	Default  T
	exact    map[string]T
	prefixes []rule[T] // longest first
}

type rule[T any] struct {
	prefix string
	value  T
}

// Set gives names that match the pattern the value, instead of what an earlier Set of
// the same pattern gave. The pattern "*" sets a value for all services, which Default,
// the zone's own, does not override.
func (r *Rules[T]) Set(pattern string, v T) error {
	name, star := strings.CutSuffix(registry.Fold(pattern), "*")
	if name != "" && !registry.IsLabel(strings.TrimSuffix(name, "-")+"x") || name == "" && !star {
		return fmt.Errorf("names: %q is no service name, prefix* or *", pattern)
	}
	if !star {
		if r.exact == nil {
			r.exact = map[string]T{}
		}
		r.exact[name] = v
		return nil
	}
	at, found := slices.BinarySearchFunc(r.prefixes, name, func(e rule[T], name string) int {
		return cmp.Or(cmp.Compare(len(name), len(e.prefix)), strings.Compare(e.prefix, name))
	})
	if found {
		r.prefixes[at].value = v
		return nil
	}
	r.prefixes = slices.Insert(r.prefixes, at, rule[T]{name, v})
	return nil
}

// For returns the value for a service, in any case; "" is no service and gets Default.
func (r *Rules[T]) For(service string) T {
	if service == "" || r.exact == nil && r.prefixes == nil {
		return r.Default
	}
	name := registry.Fold(service)
	if v, ok := r.exact[name]; ok {
		return v
	}
	for _, e := range r.prefixes {
		if strings.HasPrefix(name, e.prefix) {
			return e.value
		}
	}
	return r.Default
}

func (r *Rules[T]) each(f func(of string, v T)) {
	f("the zone", r.Default)
	for name, v := range r.exact {
		f(name, v)
	}
	for _, e := range r.prefixes {
		f(e.prefix+"*", e.value)
	}
}

func seconds(d time.Duration) uint32 { return uint32(d / time.Second) }
