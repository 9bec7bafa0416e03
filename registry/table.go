package registry

import (
	"errors"
	"slices"
	"strings"
)

// table is the writer's side of a view: the records as they were last seen, joined by
// node. It turns a batch into the next snapshot and says what that touched.
type table struct {
	raw   map[Key]Record
	nodes map[string]*nodeTable
}

// nodeTable is all that was registered on one node; node is nil until it is itself
// known, and then none of the rest is shown.
type nodeTable struct {
	node      *Node
	alive     bool
	instances map[string]*Instance
	checks    map[string][]*Check       // instance id ("" for the node); sorted, never changed in place
	checkOf   map[string]string         // check id -> instance id
	shown     map[string]*InstanceState // as in the last snapshot, by id
}

// effects is what readers must be told after the swap.
type effects struct {
	epochs       []*Epoch
	names, addrs bool
	topics       map[Topic]struct{}
}

func (e *effects) touch(k TopicKind, name string) { e.topics[Topic{k, name}] = struct{}{} }

func newTable() *table {
	return &table{
		raw:   map[Key]Record{},
		nodes: map[string]*nodeTable{},
	}
}

func (t *table) at(node string) *nodeTable {
	n := t.nodes[node]
	if n == nil {
		n = &nodeTable{
			instances: map[string]*Instance{},
			checks:    map[string][]*Check{},
			checkOf:   map[string]string{},
			shown:     map[string]*InstanceState{},
		}
		t.nodes[node] = n
	}
	return n
}

// touched is what a batch changed, before it is known what that means.
type touched struct {
	nodes     map[string]bool // value: the node itself, so all of its instances
	instances map[InstanceKey]bool
	roles     map[string]*Role // nil: gone
	tombs     map[InstanceKey]*Tombstone
	checks    bool
	nodeList  bool
}

func (t *table) apply(old *Snapshot, b Batch) (*Snapshot, effects, error) {
	records := b.Records
	if b.Whole {
		records = t.difference(b.Records)
	}
	tch := touched{
		nodes: map[string]bool{}, instances: map[InstanceKey]bool{},
		roles: map[string]*Role{}, tombs: map[InstanceKey]*Tombstone{},
	}
	var errs []error
	for _, r := range records {
		if err := t.take(r, &tch); err != nil {
			errs = append(errs, err)
		}
	}
	next, eff := t.build(old, b, &tch)
	return next, eff, errors.Join(errs...)
}

// difference returns what of a whole batch is news: records that are not as the table
// has them, and deletions of those that are not in it. So a view that was loaded from
// disk, or resynchronised, keeps the epochs of all that did not change.
func (t *table) difference(whole []Record) []Record {
	seen := make(map[Key]struct{}, len(whole))
	var news []Record
	for _, r := range whole {
		seen[r.Key] = struct{}{}
		if had, ok := t.raw[r.Key]; ok && had.Modified == r.Modified && string(had.Value) == string(r.Value) {
			continue
		}
		news = append(news, r)
	}
	for k := range t.raw {
		if _, ok := seen[k]; !ok {
			news = append(news, Record{Key: k})
		}
	}
	return news
}

// take enters one record into the table.
func (t *table) take(r Record, tch *touched) error {
	if r.Deleted() {
		delete(t.raw, r.Key)
	} else {
		t.raw[r.Key] = r
	}
	switch r.Key.Kind {
	case KindNode:
		return t.takeNode(r, tch)
	case KindAlive:
		t.at(r.Key.Node).alive = !r.Deleted()
		tch.nodes[r.Key.Node] = true
	case KindInstance:
		return t.takeInstance(r, tch)
	case KindCheck:
		return t.takeCheck(r, tch)
	case KindTombstone:
		return takeOther[Tombstone](r, tch.tombs, InstanceKey{Node: r.Key.Node, ID: r.Key.ID})
	case KindRole:
		return takeOther[Role](r, tch.roles, r.Key.Node)
	}
	return nil // a kind of a later version
}

func (t *table) takeNode(r Record, tch *touched) error {
	n := t.at(r.Key.Node)
	tch.nodes[r.Key.Node], tch.nodeList = true, true
	n.node = nil
	if r.Deleted() {
		return nil
	}
	v, err := Decode[Node](r)
	if err != nil {
		return err
	}
	n.node = v
	return nil
}

func (t *table) takeInstance(r Record, tch *touched) error {
	n := t.at(r.Key.Node)
	tch.instances[InstanceKey{r.Key.Node, r.Key.ID}] = true
	delete(n.instances, r.Key.ID)
	if r.Deleted() {
		return nil
	}
	v, err := Decode[Instance](r)
	if err != nil {
		return err
	}
	n.instances[r.Key.ID] = v
	return nil
}

func (t *table) takeCheck(r Record, tch *touched) error {
	n := t.at(r.Key.Node)
	tch.checks = true
	mark := func(instance string) {
		if instance == "" {
			tch.nodes[r.Key.Node] = true
		} else {
			tch.instances[InstanceKey{r.Key.Node, instance}] = true
		}
	}
	if of, ok := n.checkOf[r.Key.ID]; ok {
		if rest := withoutCheck(n.checks[of], r.Key.ID); len(rest) == 0 {
			delete(n.checks, of)
		} else {
			n.checks[of] = rest
		}
		delete(n.checkOf, r.Key.ID)
		mark(of)
	}
	if r.Deleted() {
		return nil
	}
	v, err := Decode[Check](r)
	if err != nil {
		return err
	}
	n.checks[v.InstanceID] = withCheck(n.checks[v.InstanceID], v)
	n.checkOf[v.ID] = v.InstanceID
	mark(v.InstanceID)
	return nil
}

func takeOther[T any, K comparable, P interface {
	*T
	setRevisions(Revisions)
}](r Record, into map[K]P, k K) error {
	into[k] = nil
	if r.Deleted() {
		return nil
	}
	v, err := Decode[T, P](r)
	if err == nil {
		into[k] = v
	}
	return err
}

func findCheck(list []*Check, id string) (int, bool) {
	return slices.BinarySearchFunc(list, id, func(c *Check, id string) int { return strings.Compare(c.ID, id) })
}

// withCheck returns a copy of the list with the check in its place.
func withCheck(list []*Check, c *Check) []*Check {
	out := append(make([]*Check, 0, len(list)+1), list...)
	at, there := findCheck(out, c.ID)
	if there {
		out[at] = c
		return out
	}
	return slices.Insert(out, at, c)
}

// withoutCheck returns a copy of the list without the check.
func withoutCheck(list []*Check, id string) []*Check {
	at, there := findCheck(list, id)
	if !there {
		return list
	}
	return slices.Concat(list[:at], list[at+1:])
}
