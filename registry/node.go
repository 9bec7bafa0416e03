package registry

// Node is a host that carries instances. Its identity is Name, compared without regard
// to ASCII case.
type Node struct {
	// Name is unique in the registry; where it is a DNS name it has an answer under
	// "node".
	Name string `json:"name"`
	// ID is a UUID that stays with the host's data directory, or "" for a node that
	// was registered through the catalogue.
	ID string `json:"id,omitempty"`
	// Address is the default for the node's instances. May be a host name.
	Address Host `json:"address"`
	// Networks holds further addresses by network name ("lan", "wan", "lan_ipv4", ...).
	Networks map[string]Host `json:"networks,omitempty"`
	// Meta is shown as TXT (RFC 1464) and in the API. At most 64 pairs.
	Meta map[string]string `json:"meta,omitempty"`
	// Zone names where the host stands, for nearest-first answers; may be "".
	Zone string `json:"zone,omitempty"`
	// Agent says that an agent keeps this node alive with a lease. A node without one
	// counts as alive.
	Agent bool `json:"agent,omitempty"`

	Revisions `json:"-"`
}

// Revisions are the store's revisions of a record. They are not part of the value: the
// store gives them, the view fills them in.
type Revisions struct {
	Created  uint64 // revision of the write that created the record
	Modified uint64 // revision of the last write to it
}
