package registry

import (
	"net/netip"
	"slices"
)

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
