package registry

import (
	"cmp"
	"errors"
	"net/netip"
	"reflect"
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

// build makes the next snapshot of the table after the records were taken.
func (t *table) build(old *Snapshot, b Batch, tch *touched) (*Snapshot, effects) {
	next := *old
	next.Revision = max(b.Revision, old.Revision)
	if b.Whole {
		next.Revision = b.Revision // lower where the store was made anew
	}
	rev := next.Revision
	eff := effects{topics: map[Topic]struct{}{{TopicAny, ""}: {}}}
	w := &builder{
		t: t, rev: rev, next: &next, eff: &eff,
		services: old.services.edit(), nodes: old.nodes.edit(), addrs: old.addrs.edit(),
		changed: map[string]map[InstanceKey]*InstanceState{},
		onNode:  map[string]map[InstanceKey]*InstanceState{},
	}
	for name, whole := range tch.nodes {
		if whole {
			for id := range t.at(name).instances {
				tch.instances[InstanceKey{name, id}] = true
			}
			for id := range t.at(name).shown {
				tch.instances[InstanceKey{name, id}] = true
			}
		}
	}
	for k := range tch.instances {
		if _, ok := tch.nodes[k.Node]; !ok {
			tch.nodes[k.Node] = false
		}
		w.instance(k)
	}
	for name, itself := range tch.nodes {
		w.node(name, itself)
	}
	for name, members := range w.changed {
		w.service(name, members)
	}
	w.others(old, tch)
	next.services, next.nodes, next.addrs = w.services.done(), w.nodes.done(), w.addrs.done()
	if tch.checks {
		next.ChecksIndex = rev
		eff.touch(TopicChecks, "")
	}
	if tch.nodeList {
		next.NodesIndex = rev
		eff.touch(TopicNodes, "")
	}
	switch {
	case b.Serial != 0:
		next.Serial = max(next.Serial, b.Serial)
	case w.visible:
		next.Serial = max(next.Serial+1, rev)
	}
	return &next, eff
}

// builder is one run of build.
type builder struct {
	t        *table
	rev      uint64
	next     *Snapshot
	eff      *effects
	services *edit[string, *Service]
	nodes    *edit[string, *NodeState]
	addrs    *edit[netip.Addr, []AddrUse]
	// changed holds, by folded service name, the instances to replace; nil takes out.
	changed map[string]map[InstanceKey]*InstanceState
	// onNode holds the same by folded node name.
	onNode  map[string]map[InstanceKey]*InstanceState
	visible bool // DNS can see it
	epochs  map[string]bool
}

func mark(in map[string]map[InstanceKey]*InstanceState, name string, k InstanceKey, s *InstanceState) {
	m := in[name]
	if m == nil {
		m = map[InstanceKey]*InstanceState{}
		in[name] = m
	}
	m[k] = s
}

// instance joins one instance with its node and checks, or takes it out.
func (w *builder) instance(k InstanceKey) {
	n := w.t.at(k.Node)
	was := n.shown[k.ID]
	var now *InstanceState
	if i := n.instances[k.ID]; i != nil && n.node != nil {
		own, hosts := n.checks[k.ID], n.checks[""]
		all := own
		if len(hosts) > 0 {
			all = slices.Concat(own, hosts)
		}
		now = &InstanceState{
			Instance: i, Host: n.node,
			Checks: all,
			State:  StateOf(i, own, hosts),
			Label:  InstanceLabel(i.Node, i.ID),
		}
	}
	w.next.InstancesIndex = w.rev
	w.eff.touch(TopicInstances, "")
	if was == nil && now == nil {
		return
	}
	mark(w.onNode, k.Node, k, now)
	if was != nil && (now == nil || Fold(was.Service) != Fold(now.Service)) {
		mark(w.changed, Fold(was.Service), k, nil)
	}
	if now != nil {
		mark(w.changed, Fold(now.Service), k, now)
		n.shown[k.ID] = now
	} else {
		delete(n.shown, k.ID)
	}
	if seesInstance(was, now) {
		w.visible = true
		w.raise(was)
		w.raise(now)
	}
	if was == nil || now == nil || was.Service != now.Service || !slices.Equal(was.Tags, now.Tags) {
		w.next.ServicesIndex = w.rev
		w.eff.touch(TopicServices, "")
	}
	w.use(instanceUses(was), instanceUses(now))
}

// raise notes that the epoch of the instance's service must move.
func (w *builder) raise(i *InstanceState) {
	if i == nil {
		return
	}
	if w.epochs == nil {
		w.epochs = map[string]bool{}
	}
	w.epochs[Fold(i.Service)] = true
}

// service replaces the changed members of one service.
func (w *builder) service(name string, members map[InstanceKey]*InstanceState) {
	was, _ := w.services.get(name)
	w.eff.touch(TopicService, name)
	var list []*InstanceState
	if was != nil {
		list = was.Instances
	}
	list = replace(list, members)
	if was != nil && w.epochs[name] {
		w.eff.epochs = append(w.eff.epochs, was.Epoch)
	}
	if len(list) == 0 {
		if was != nil {
			w.services.remove(name)
			w.next.GoneIndex = w.rev
			w.eff.names = true
		}
		return
	}
	now := &Service{Name: list[0].Service, Instances: list, Index: w.rev}
	if was != nil {
		now.Name, now.Epoch = was.Name, was.Epoch
	} else {
		now.Epoch = new(Epoch)
		w.eff.names = true
	}
	w.services.set(name, now)
}

// node replaces one node.
func (w *builder) node(name string, itself bool) {
	t := w.t.at(name)
	was, _ := w.nodes.get(name)
	w.eff.touch(TopicNode, name)
	if t.node == nil {
		if was != nil {
			w.nodes.remove(name)
			w.next.GoneIndex = w.rev
			w.eff.names, w.visible = true, true
			w.eff.epochs = append(w.eff.epochs, was.Epoch)
			w.use(nodeUses(was.Node), nil)
		}
		if len(t.instances) == 0 && len(t.checks) == 0 && !t.alive {
			delete(w.t.nodes, name)
		}
		return
	}
	now := &NodeState{
		Node: t.node, Alive: t.alive || !t.node.Agent,
		Checks: t.checks[""], Index: w.rev,
	}
	if was == nil {
		now.Instances = replace(nil, w.onNode[name])
	} else {
		now.Instances = replace(was.Instances, w.onNode[name])
	}
	if was == nil {
		now.Epoch = new(Epoch)
		w.eff.names, w.visible = true, true
		w.use(nil, nodeUses(now.Node))
	} else {
		now.Epoch = was.Epoch
		if itself && seesNode(was.Node, now.Node) {
			w.visible = true
			w.eff.epochs = append(w.eff.epochs, was.Epoch)
			w.use(nodeUses(was.Node), nodeUses(now.Node))
		}
	}
	w.nodes.set(name, now)
}

// others enters roles and tombstones.
func (w *builder) others(old *Snapshot, tch *touched) {
	roles, tombs := old.roles.edit(), old.tombs.edit()
	for name, r := range tch.roles {
		w.visible, w.eff.names = true, true
		if r == nil {
			roles.remove(name)
			w.next.GoneIndex = w.rev
			continue
		}
		roles.set(name, r)
	}
	for k, v := range tch.tombs {
		if v == nil {
			tombs.remove(k)
			continue
		}
		tombs.set(k, v)
	}
	w.next.roles, w.next.tombs = roles.done(), tombs.done()
}

// use moves the addresses of a node or instance from what it used to what it uses. No two
// nodes or instances have the same AddrUse.
func (w *builder) use(was, now map[netip.Addr]AddrUse) {
	for a, u := range was {
		if now[a] != u {
			w.reuse(a, u, false)
		}
	}
	for a, u := range now {
		if was[a] != u {
			w.reuse(a, u, true)
		}
	}
}

func (w *builder) reuse(a netip.Addr, u AddrUse, add bool) {
	w.eff.addrs = true
	list, _ := w.addrs.get(a)
	at, there := slices.BinarySearchFunc(list, u, func(x, y AddrUse) int {
		return cmp.Or(strings.Compare(x.Service, y.Service), strings.Compare(x.Node, y.Node), strings.Compare(x.Label, y.Label))
	})
	if there == add {
		return
	}
	next := make([]AddrUse, 0, len(list)+1)
	next = append(next, list[:at]...)
	if add {
		next = append(append(next, u), list[at:]...)
	} else {
		next = append(next, list[at+1:]...)
	}
	if len(next) == 0 {
		w.addrs.remove(a)
		return
	}
	w.addrs.set(a, next)
}

func nodeUses(n *Node) map[netip.Addr]AddrUse {
	m := map[netip.Addr]AddrUse{}
	add := func(h Host) {
		if a, ok := h.Addr(); ok {
			m[a] = AddrUse{Node: n.Name}
		}
	}
	add(n.Address)
	for _, h := range n.Networks {
		add(h)
	}
	return m
}

func instanceUses(i *InstanceState) map[netip.Addr]AddrUse {
	if i == nil {
		return nil
	}
	m := map[netip.Addr]AddrUse{}
	add := func(h Host) {
		if a, ok := h.Addr(); ok {
			m[a] = AddrUse{Node: i.Node, Service: i.Service, Label: i.Label}
		}
	}
	add(i.Address)
	for _, e := range i.Networks {
		add(e.Address)
	}
	return m
}

// seesInstance reports whether DNS can tell the two apart.
func seesInstance(a, b *InstanceState) bool {
	if a == nil || b == nil {
		return a != b
	}
	if a.State != b.State || a.Host != b.Host && seesNode(a.Host, b.Host) {
		return true
	}
	if a.Instance == b.Instance {
		return false
	}
	x, y := *a.Instance, *b.Instance
	x.Revisions, y.Revisions = Revisions{}, Revisions{}
	x.Definition, y.Definition = "", ""
	x.Origin, y.Origin, x.Owner, y.Owner, x.EnableTagOverride, y.EnableTagOverride = "", "", "", "", false, false
	return !reflect.DeepEqual(x, y)
}

func seesNode(a, b *Node) bool {
	x, y := *a, *b
	x.Revisions, y.Revisions = Revisions{}, Revisions{}
	x.Agent, y.Agent, x.ID, y.ID = false, false, "", ""
	return !reflect.DeepEqual(x, y)
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
