package registry

import (
	"iter"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// Snapshot is the whole registry at one revision. It and all that hangs on it is
// immutable and may be read by any number of goroutines without a lock.
type Snapshot struct {
	// Revision is the store's revision that the snapshot shows; 0 before anything was
	// loaded.
	Revision uint64
	// Serial is the revision of the last write that DNS can see, for SOA. It never goes
	// back: where a store that was made anew starts with low revisions, it is counted on.
	Serial uint64
	// Indexes for lists that concern more than one service (X-Consul-Index): the
	// revision at which the list last changed.
	ServicesIndex  uint64 // names of services and their tags
	NodesIndex     uint64 // nodes
	ChecksIndex    uint64 // checks and their statuses
	InstancesIndex uint64 // instances
	// GoneIndex is the revision at which a service, node or role last vanished: the
	// index of what is not there.
	GoneIndex uint64

	services shards[string, *Service]
	nodes    shards[string, *NodeState]
	addrs    shards[netip.Addr, []AddrUse]
	roles    shards[string, *Role]
	tombs    shards[InstanceKey, *Tombstone]
}

// Service is a service with all of its instances, whatever their state.
type Service struct {
	// Name as it was first registered; lookups do not regard case.
	Name string
	// Instances in the order of node name, then id. Never empty.
	Instances []*InstanceState
	// Index is the revision at which anything about the service last changed: an
	// instance, its node, one of their checks.
	Index uint64
	// Epoch is raised when DNS can see a change. It belongs to the name for as long as
	// the service exists.
	Epoch *Epoch

	once    sync.Once // guards byLabel, which is made on first use
	byLabel map[string]*InstanceState
}

// InstanceState is an instance with what follows from the rest of the registry.
type InstanceState struct {
	*Instance
	// Host is the node it is on; never nil.
	Host *Node
	// Checks are its own and the node's, by id.
	Checks []*Check
	State  State
	// Label is its DNS label, see InstanceLabel.
	Label string
}

// Weight returns the weight that counts now; 0 while it is not answered.
func (i *InstanceState) Weight() uint16 { return i.Weights.In(i.State) }

// Addr returns where the instance listens: its own address, else the node's. The Host
// may be a name.
func (i *InstanceState) Addr() Host {
	if !i.Address.IsZero() {
		return i.Address
	}
	return i.Host.Address
}

// InZone returns the instance's zone, else the node's.
func (i *InstanceState) InZone() string {
	if i.Zone != "" {
		return i.Zone
	}
	return i.Host.Zone
}

// HasTag reports whether the instance has the tag, without regard to ASCII case.
func (i *InstanceState) HasTag(tag string) bool {
	return slices.ContainsFunc(i.Tags, func(t string) bool { return strings.EqualFold(t, tag) })
}

// Instance returns the instance with this DNS label: its stable label, or its raw id
// where that is a valid label and no other instance of the service has it. nil where
// there is none.
func (s *Service) Instance(label string) *InstanceState {
	s.once.Do(func() {
		m := make(map[string]*InstanceState, 2*len(s.Instances))
		for _, i := range s.Instances {
			if !IsLabel(i.ID) {
				continue
			}
			id := Fold(i.ID)
			if _, twice := m[id]; twice {
				m[id] = nil
			} else {
				m[id] = i
			}
		}
		for _, i := range s.Instances {
			m[i.Label] = i
		}
		s.byLabel = m
	})
	return s.byLabel[Fold(label)]
}

// NodeState is a node with what is on it.
type NodeState struct {
	*Node
	// Alive says that the node's agent holds its lease; always true without an agent.
	Alive bool
	// Checks are the node-level ones, by id.
	Checks []*Check
	// Instances on the node, by id.
	Instances []*InstanceState
	// Index is the revision at which anything on the node last changed.
	Index uint64
	// Epoch is raised when DNS can see a change of the node itself.
	Epoch *Epoch
}

// AddrUse says who uses an address. Service and Label are empty for a node's own.
type AddrUse struct {
	Node    string
	Service string
	Label   string
}

// Service returns the service of this name in any case, or nil.
func (s *Snapshot) Service(name string) *Service {
	v, _ := s.services.get(Fold(name))
	return v
}

// Node returns the node of this name in any case, or nil.
func (s *Snapshot) Node(name string) *NodeState {
	v, _ := s.nodes.get(Fold(name))
	return v
}

// Instance returns the instance (node, id), or nil.
func (s *Snapshot) Instance(node, id string) *InstanceState {
	n := s.Node(node)
	if n == nil {
		return nil
	}
	at, ok := slices.BinarySearchFunc(n.Instances, id, func(i *InstanceState, id string) int {
		return strings.Compare(i.ID, id)
	})
	if !ok {
		return nil
	}
	return n.Instances[at]
}

// Uses returns who uses the address, nodes first; nil where nobody does. The caller
// must not change it.
func (s *Snapshot) Uses(a netip.Addr) []AddrUse {
	v, _ := s.addrs.get(a.Unmap())
	return v
}

// Role returns the role of this name in any case, or nil.
func (s *Snapshot) Role(name string) *Role {
	v, _ := s.roles.get(Fold(name))
	return v
}

// Tombstone returns what remembers a deregistered instance, or nil.
func (s *Snapshot) Tombstone(node, id string) *Tombstone {
	v, _ := s.tombs.get(InstanceKey{Node: Fold(node), ID: id})
	return v
}

// Services yields every service, in no order.
func (s *Snapshot) Services() iter.Seq[*Service] { return values(s.services) }

// Nodes yields every node, in no order.
func (s *Snapshot) Nodes() iter.Seq[*NodeState] { return values(s.nodes) }

// Roles yields every role, in no order.
func (s *Snapshot) Roles() iter.Seq[*Role] { return values(s.roles) }

// Addrs yields every address in use, in no order.
func (s *Snapshot) Addrs() iter.Seq2[netip.Addr, []AddrUse] { return s.addrs.all() }

// Counts returns the number of services, nodes and addresses.
func (s *Snapshot) Counts() (services, nodes, addrs int) {
	return s.services.size, s.nodes.size, s.addrs.size
}

func values[K comparable, V any](m shards[K, V]) iter.Seq[V] {
	return func(yield func(V) bool) {
		for _, v := range m.all() {
			if !yield(v) {
				return
			}
		}
	}
}
