package registry

// Role is a name that at most one instance holds at a time: a database's primary.
// Candidates are the instances of Service, in the order of priority, then name; the
// members' leader alone writes the holder.
type Role struct {
	Name    string `json:"name"`
	Service string `json:"service"`
	// Holder is who has the role now; nil where nobody has.
	Holder *InstanceKey `json:"holder,omitempty"`
	// Epoch is the fencing number: it grows with every change of the holder.
	Epoch uint64 `json:"epoch"`

	Revisions `json:"-"`
}
