package registry

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Record is one key as the store holds it. The same form is committed, relayed and kept
// on disk, so there is one decoder for all three.
type Record struct {
	Key Key
	// Value is the JSON of the model's type; nil means that the key was deleted.
	Value    []byte
	Created  uint64 // revision of the write that created the key
	Modified uint64 // revision of the write that made this value, or deleted the key
}

// Deleted reports whether the record is a deletion.
func (r Record) Deleted() bool { return r.Value == nil }

// Encode returns the record value of a part of the model: *Node, *Instance, *Check,
// *Role or *Tombstone.
func Encode(part any) []byte {
	b, err := json.Marshal(part)
	if err != nil {
		// The model has no type that JSON cannot write.
		panic("registry: encode: " + err.Error())
	}
	return b
}

// Decode reads a record's value into a new T and gives it the record's revisions.
func Decode[T any, P interface {
	*T
	setRevisions(Revisions)
}](r Record) (P, error) {
	p := P(new(T))
	if err := json.Unmarshal(r.Value, p); err != nil {
		return nil, fmt.Errorf("registry: value of %s at revision %d: %w", r.Key, r.Modified, err)
	}
	p.setRevisions(Revisions{Created: r.Created, Modified: r.Modified})
	return p, nil
}

func (r *Revisions) setRevisions(v Revisions) { *r = v }

// Batch is what one step of the relay brings: records that were written, and the
// revision at which they leave the reader.
type Batch struct {
	// Revision is the store's revision that the view has after this batch.
	Revision uint64
	// Serial is what the view's serial is to be at least, for a batch that is read back
	// from disk; 0 where the view is to find it itself.
	Serial uint64
	// Whole says that Records is everything there is, and what is not among them is gone.
	Whole   bool
	Records []Record
}

// Change is one atomic write to the store.
type Change struct {
	// Puts are written, Deletes removed, all of them or none.
	Puts    []Record // Key and Value; the revisions are the store's to give
	Deletes []Key
	// Guards must hold for the write to happen; else ErrConflict is returned.
	Guards []Guard
	// Events are kept in the history with the revision of this write.
	Events []Event
}

// Empty reports whether the change writes nothing.
func (c Change) Empty() bool { return len(c.Puts) == 0 && len(c.Deletes) == 0 }

// Put adds a part of the model under its key.
func (c *Change) Put(k Key, part any) {
	c.Puts = append(c.Puts, Record{Key: k, Value: Encode(part)})
}

// Delete removes a key.
func (c *Change) Delete(k Key) { c.Deletes = append(c.Deletes, k) }

// Guard demands that Key was last modified at Modified; 0 demands that it is not there.
type Guard struct {
	Key      Key
	Modified uint64
}

// Event is one line of the history: who changed what, when, and why.
type Event struct {
	Time time.Time `json:"time"`
	// Revision of the write; filled in by the store when it is read back.
	Revision uint64 `json:"revision"`
	// Subject is what changed: "instance", "check", "node", "role", "member".
	Subject string `json:"subject"`
	// Action is what happened: "register", "update", "deregister", "status", ...
	Action  string `json:"action"`
	Node    string `json:"node,omitempty"`
	Service string `json:"service,omitempty"`
	ID      string `json:"id,omitempty"`
	// Instance is the id of the instance that a check belongs to.
	Instance string `json:"instance,omitempty"`
	From     string `json:"from,omitempty"` // value before, for a status
	To       string `json:"to,omitempty"`
	// Actor is who asked: "api", "file", "check", "reaper", ...; Source the address or
	// file that it came from; Reason in words.
	Actor  string `json:"actor"`
	Source string `json:"source,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// HistoryQuery selects events of the history. The zero value asks for the newest 100 of
// everything.
type HistoryQuery struct {
	// Name keeps the events whose node, service, instance or id is this name, without regard to
	// ASCII case; "" keeps all.
	Name string
	// Since keeps the events of this time and later; zero keeps all.
	Since time.Time
	// Limit is the most events to return, newest first; 0 means 100, and more than
	// 10,000 means 10,000.
	Limit int
}

// Bounds of HistoryQuery.Limit.
const (
	DefaultHistoryLimit = 100
	MaxHistoryLimit     = 10_000
)

// Max returns the most events that the query may return.
func (q HistoryQuery) Max() int {
	if q.Limit <= 0 {
		return DefaultHistoryLimit
	}
	return min(q.Limit, MaxHistoryLimit)
}

// Matches reports whether the query keeps the event.
func (q HistoryQuery) Matches(e Event) bool {
	if !q.Since.IsZero() && e.Time.Before(q.Since) {
		return false
	}
	return q.Name == "" || strings.EqualFold(q.Name, e.Node) ||
		strings.EqualFold(q.Name, e.Service) || strings.EqualFold(q.Name, e.ID) ||
		strings.EqualFold(q.Name, e.Instance)
}
