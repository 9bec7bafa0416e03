package registry

// Owner is who brought an instance into the registry and answers for it being there.
type Owner string

// The owners. Each instance has exactly one.
const (
	OwnerAPI    Owner = "api"    // a registration through the HTTP API
	OwnerFile   Owner = "file"   // a definition in services.d
	OwnerDocker Owner = "docker" // a container
	OwnerSync   Owner = "sync"   // mirrored from another catalogue
)

// InstanceKey identifies an instance: the same ID on two nodes is two instances.
type InstanceKey struct {
	Node string // node name
	ID   string // unique on the node
}

// Instance is one place where a service is offered.
type Instance struct {
	Node string `json:"node"`
	ID   string `json:"id"`
	// Service is the service's name. Compared without regard to ASCII case.
	Service string   `json:"service"`
	Tags    []string `json:"tags,omitempty"`
	// Meta is free for the user. At most 64 pairs.
	Meta map[string]string `json:"meta,omitempty"`
	// Address is where it listens; zero means the node's address.
	Address Host `json:"address"`
	// Port is the default port; 0 where there is none.
	Port uint16 `json:"port,omitempty"`
	// Ports are the named ports beside it.
	Ports []NamedPort `json:"ports,omitempty"`
	// Networks holds further addresses by network name.
	Networks map[string]Endpoint `json:"networks,omitempty"`
	Weights  Weights             `json:"weights"`
	// Priority is the SRV priority (RFC 2782); lower is preferred. Default 1.
	Priority uint16 `json:"priority,omitempty"`
	// Zone overrides the node's zone; may be "".
	Zone string `json:"zone,omitempty"`
	// Drain takes the instance out of A and AAAA and leaves it in SRV with weight 0.
	Drain bool `json:"drain,omitempty"`
	// EnableTagOverride is Consul's field of that name; stored and given back.
	EnableTagOverride bool  `json:"enable_tag_override,omitempty"`
	Owner             Owner `json:"owner"`
	// Origin is where the owner found it: a file's path, a container's id. For people.
	Origin string `json:"origin,omitempty"`
	// Definition is a hash of what the owner defined, for tombstones; "" from the API.
	Definition string `json:"definition,omitempty"`

	Revisions `json:"-"`
}

// Key returns the instance's identity.
func (i *Instance) Key() InstanceKey { return InstanceKey{Node: i.Node, ID: i.ID} }

// NamedPort is a port with a name of its own, found by `_<name>._tcp`.
type NamedPort struct {
	Name string `json:"name"`
	Port uint16 `json:"port"`
}

// Endpoint is an address with the port that is reached there.
type Endpoint struct {
	Address Host   `json:"address"`
	Port    uint16 `json:"port,omitempty"`
}

// Weights are the instance's share of the load while its checks pass and while one
// warns: 0 to 65535, default 1 and 1. A weight of 0 is a drain.
type Weights struct {
	Passing uint16 `json:"passing"`
	Warning uint16 `json:"warning"`
}

// DefaultWeights is what a registration without weights gets.
var DefaultWeights = Weights{Passing: 1, Warning: 1}

// Tombstone remembers that an instance was deregistered by another than its owner, so
// that the owner does not bring it back before its definition changes. An explicit
// registration through the API clears it.
type Tombstone struct {
	Node  string `json:"node"`
	ID    string `json:"id"`
	Owner Owner  `json:"owner"`
	// Definition is a hash of the definition that the owner held when it was removed.
	Definition string `json:"definition,omitempty"`
	// By is who deregistered it.
	By string `json:"by"`

	Revisions `json:"-"`
}
