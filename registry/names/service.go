package names

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	"github.com/resolverd/resolverd/registry"
)

// member is an instance as an answer names it.
type member struct {
	*registry.InstanceState
	weight uint16 // 0: draining, in SRV only
	port   uint16
	at     hosts
}

// service answers the names under the category "service", and short ones.
func (m *maker) service() Answer {
	svc := m.snap.Service(m.q.Name)
	if svc == nil {
		switch {
		case m.q.Short:
			return Answer{Status: NotOurs}
		case m.q.Tag == "" && !m.q.RFC2782 && m.q.Name[0] == '_':
			// It stands above the RFC 2782 names of services by that tag.
			return Answer{Status: NoData}
		}
		return Answer{Status: NoName}
	}
	m.ttl = m.zone.TTL.For(svc.Name)
	all := m.asked(svc)
	if len(all) == 0 {
		return Answer{Status: m.above(svc), Service: svc.Name}
	}
	members, lastGood := m.choose(svc.Name, all)
	a := Answer{Status: NoName}
	if len(members) > 0 {
		a = m.members(svc.Name, members)
	}
	a.Service, a.LastGood = svc.Name, lastGood
	return a
}

// asked returns the instances that have the tag or port in question.
func (m *maker) asked(svc *registry.Service) []member {
	all := make([]member, 0, len(svc.Instances))
	for _, i := range svc.Instances {
		if m.q.Tag != "" && !i.HasTag(m.q.Tag) {
			continue
		}
		port := i.Port
		if m.q.Port != "" {
			at := slices.IndexFunc(i.Ports, func(p registry.NamedPort) bool { return strings.EqualFold(p.Name, m.q.Port) })
			if at < 0 {
				continue
			}
			port = i.Ports[at].Port
		}
		all = append(all, member{InstanceState: i, port: port})
	}
	return all
}

// above tells an empty non-terminal from a name that is not there: a tag with dots, or
// a named port, puts names between itself and the service.
func (m *maker) above(svc *registry.Service) Status {
	if m.q.Tag == "" || m.q.RFC2782 {
		return NoName
	}
	for _, i := range svc.Instances {
		if (m.q.Tag == "_tcp" || m.q.Tag == "_udp") && len(i.Ports) > 0 && !m.zone.Consul {
			return NoData
		}
		for _, t := range i.Tags {
			if isName(t) && strings.HasSuffix(registry.Fold(t), "."+m.q.Tag) {
				return NoData
			}
		}
	}
	return NoName
}

// choose returns those of the instances that are answered, in their own order, with
// the weight that counts. Where none is usable and the service wants its last good
// ones, these are they that a check has found critical: what is starting was not good
// yet, what is in maintenance is meant to be away.
func (m *maker) choose(service string, all []member) (chosen []member, lastGood bool) {
	onlyPassing := m.zone.OnlyPassing.For(service)
	var draining, warned, down []member
	chosen = make([]member, 0, len(all))
	for _, i := range all {
		i.weight = i.Weights.In(i.State)
		switch {
		case i.State.Answered(onlyPassing) && i.weight > 0:
			chosen = append(chosen, i)
		case i.State == registry.Draining, i.State.Answered(onlyPassing):
			i.weight = 0
			draining = append(draining, i)
		case i.State == registry.Warned:
			warned = append(warned, i)
		case i.State == registry.Down:
			i.weight = i.Weights.Passing
			down = append(down, i)
		}
	}
	if len(chosen) == 0 && m.zone.LastGood.For(service) {
		if chosen = warned; len(chosen) == 0 {
			chosen = down
		}
		chosen = slices.DeleteFunc(chosen, func(i member) bool { return i.weight == 0 })
		lastGood = len(chosen) > 0
	}
	if m.zone.OmitDraining || len(draining) == 0 {
		return chosen, lastGood
	}
	chosen = append(chosen, draining...)
	slices.SortFunc(chosen, func(a, b member) int { return compareInstances(a.InstanceState, b.InstanceState) })
	return chosen, lastGood
}

func compareInstances(a, b *registry.InstanceState) int {
	if c := strings.Compare(registry.Fold(a.Node), registry.Fold(b.Node)); c != 0 {
		return c
	}
	return strings.Compare(a.ID, b.ID)
}

// members makes the RRset of a service.
func (m *maker) members(service string, members []member) Answer {
	anywhere := false
	for i := range members {
		members[i].at = placeOf(members[i].InstanceState)
		anywhere = anywhere || members[i].weight > 0 && members[i].at.any()
	}
	switch {
	case m.ask.Type == dns.TypeSRV:
		return m.srv(service, members)
	case m.q.SRVOnly, m.q.RFC2782 && !m.zone.Consul:
		if m.ask.Type == dns.TypeANY {
			return m.srv(service, members)
		}
		return Answer{Status: NoData}
	case !anywhere:
		return m.external(members)
	case m.ask.Type == dns.TypeA, m.ask.Type == dns.TypeAAAA:
		return m.addresses(members, m.ask.Type)
	case m.ask.Type == dns.TypeANY && m.zone.Consul:
		a, more := m.addresses(members, dns.TypeA), m.addresses(members, dns.TypeAAAA)
		a.Answer = append(a.Answer, more.Answer...)
		a.Status, a.Random, a.Weights = Data, len(a.Answer) > 1, nil
		return a
	case m.ask.Type == dns.TypeANY:
		if a := m.addresses(members, dns.TypeA); a.Status == Data {
			return a
		}
		return m.addresses(members, dns.TypeAAAA)
	}
	return Answer{Status: NoData}
}

// addresses answers A or AAAA in random order by weight. An address that several
// instances share comes once, with the sum of their weights.
func (m *maker) addresses(members []member, t uint16) Answer {
	shares := make([]share, 0, len(members))
	at := make(map[netip.Addr]int, len(members))
	for _, i := range members {
		a := i.at.ofType(t)
		if !a.IsValid() || i.weight == 0 {
			continue
		}
		if n, ok := at[a]; ok {
			shares[n].weight += float64(i.weight)
			continue
		}
		at[a] = len(shares)
		shares = append(shares, share{addr: a, weight: float64(i.weight)})
	}
	if len(shares) == 0 {
		return Answer{Status: NoData}
	}
	shuffle(m.ask.Rand, shares)
	a := Answer{Status: Data, Random: len(shares) > 1}
	for n, s := range shares {
		if m.full(n) {
			break
		}
		a.Answer = append(a.Answer, m.address(m.ask.Name, s.addr))
		a.Weights = append(a.Weights, uint32(s.weight))
	}
	if len(a.Answer) < len(shares) {
		a.Weights = nil
	}
	return a
}

// full reports whether no further RR can fit after n.
func (m *maker) full(n int) bool { return m.ask.Limit > 0 && n > m.ask.Limit }

// external answers a service all of whose usable instances stand outside: a name has
// one CNAME, so one of them is drawn by weight.
func (m *maker) external(members []member) Answer {
	var total float64
	var out []member
	for _, i := range members {
		if i.weight > 0 && i.at.name != "" {
			total += float64(i.weight)
			out = append(out, i)
		}
	}
	if len(out) == 0 {
		return Answer{Status: NoData}
	}
	drawn := out[len(out)-1]
	if len(out) > 1 {
		left := m.ask.Rand.Float64() * total
		for _, i := range out {
			if left -= float64(i.weight); left < 0 {
				drawn = i
				break
			}
		}
	}
	a := m.alias(drawn.at.name)
	a.Random = len(out) > 1
	return a
}

// instance answers the name of one instance, whatever its state: it says where the
// instance is, not that it is well.
func (m *maker) instance() Answer {
	svc := m.snap.Service(m.q.Name)
	if svc == nil {
		return Answer{Status: NoName}
	}
	m.ttl = m.zone.TTL.For(svc.Name)
	i := svc.Instance(m.q.Label)
	a := Answer{Status: NoName}
	if i != nil {
		a = m.one(svc.Name, i)
	}
	a.Service = svc.Name
	return a
}

// one answers for a single instance: addresses, and SRV where it has a port.
func (m *maker) one(service string, i *registry.InstanceState) Answer {
	one := member{InstanceState: i, weight: i.Weight(), port: i.Port, at: placeOf(i)}
	if m.ask.Type == dns.TypeSRV {
		if i.Port == 0 {
			return Answer{Status: NoData}
		}
		return m.srv(service, []member{one})
	}
	return m.hosts(one.at, nil)
}

// role answers with the one holder of a role.
func (m *maker) role() Answer {
	r := m.snap.Role(m.q.Name)
	if r == nil || r.Holder == nil {
		return Answer{Status: NoName}
	}
	i := m.snap.Instance(r.Holder.Node, r.Holder.ID)
	if i == nil || !registry.IsLabel(i.Service) {
		return Answer{Status: NoName}
	}
	m.ttl = m.zone.TTL.For(i.Service)
	a := m.one(i.Service, i)
	a.Service = i.Service
	return a
}
