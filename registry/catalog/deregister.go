package catalog

import (
	"context"
	"fmt"
	"strings"

	"github.com/resolverd/resolverd/registry"
)

// changeSize bounds the keys of one write where a node goes with all that is on it.
const changeSize = 40

// Deregister takes out the instance and its checks. Where the actor is not the owner,
// and the owner would bring it back, a tombstone stays behind. A file, docker or sync
// owner can only take out what is its own (ErrOwned); it thereby also gives up its
// tombstone.
func (c *Catalog) Deregister(ctx context.Context, a Actor, node, id string) (Result, error) {
	unlock, err := c.lock(ctx, node, id)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	var left registry.Owner
	r, err := c.change(ctx, func(s *registry.Snapshot) (registry.Change, error) {
		var ch registry.Change
		left = ""
		i := s.Instance(node, id)
		if i != nil && (a.Owner == i.Owner || !comesBack(a.Owner)) {
			left = c.deregister(&ch, s, a, i)
			return ch, nil
		}
		if t := s.Tombstone(node, id); t != nil && t.Owner == a.Owner {
			k := registry.TombstoneKey(node, id)
			ch.Guards = append(ch.Guards, guard(k, t.Revisions))
			ch.Delete(k)
			return ch, nil
		}
		if i != nil {
			return ch, fmt.Errorf("instance %q on node %q: %w: %s", id, i.Node, ErrOwned, i.Owner)
		}
		return ch, fmt.Errorf("instance %q on node %q: %w", id, node, ErrNotFound)
	})
	r.Tombstone = left
	return r, err
}

// comesBack reports whether an owner registers again on its own what it finds missing.
func comesBack(o registry.Owner) bool {
	return o == registry.OwnerFile || o == registry.OwnerDocker || o == registry.OwnerSync
}

// deregister takes out one instance and returns for whom a tombstone stays.
func (c *Catalog) deregister(ch *registry.Change, s *registry.Snapshot, a Actor, i *registry.InstanceState) (left registry.Owner) {
	k := registry.InstanceRecordKey(i.Node, i.ID)
	ch.Guards = append(ch.Guards, guard(k, i.Revisions))
	ch.Delete(k)
	for _, k := range ownChecks(i) {
		key := registry.CheckKey(k.Node, k.ID)
		ch.Guards = append(ch.Guards, guard(key, k.Revisions))
		ch.Delete(key)
	}
	tk := registry.TombstoneKey(i.Node, i.ID)
	if a.Owner != i.Owner && comesBack(i.Owner) {
		by := strings.TrimSpace(a.Name + " " + a.Source)
		left = i.Owner
		ch.Put(tk, &registry.Tombstone{Node: i.Node, ID: i.ID, Owner: i.Owner, Definition: i.Definition, By: by})
	} else if t := s.Tombstone(i.Node, i.ID); t != nil && t.Owner == a.Owner {
		ch.Delete(tk)
	}
	ev := c.event(a, "instance", "deregister")
	ev.Node, ev.Service, ev.ID, ev.From = i.Node, i.Service, i.ID, i.State.String()
	ch.Events = append(ch.Events, ev)
	return left
}

// DeregisterNode takes out the node with its instances and checks, in several writes
// where there are many; the node itself goes with the last. A node whose agent runs
// stays (ErrAlive).
func (c *Catalog) DeregisterNode(ctx context.Context, a Actor, node string) (Result, error) {
	switch n := c.view.Load().Node(node); {
	case n == nil:
		return Result{}, fmt.Errorf("node %q: %w", node, ErrNotFound)
	case n.Agent && n.Alive:
		return Result{}, fmt.Errorf("node %q: %w: stop it there first, or deregister its services", n.Name, ErrAlive)
	}
	for {
		last := false
		r, err := c.change(ctx, func(s *registry.Snapshot) (registry.Change, error) {
			var ch registry.Change
			last = false
			n := s.Node(node)
			if n == nil {
				last = true
				return ch, nil
			}
			for _, i := range n.Instances {
				if len(ch.Guards) >= changeSize {
					return ch, nil
				}
				c.deregister(&ch, s, a, i)
			}
			for _, k := range n.Checks {
				if len(ch.Guards) >= changeSize {
					return ch, nil
				}
				key := registry.CheckKey(n.Name, k.ID)
				ch.Guards = append(ch.Guards, guard(key, k.Revisions))
				ch.Delete(key)
			}
			last = true
			key := registry.NodeKey(n.Name)
			ch.Guards = append(ch.Guards, guard(key, n.Revisions))
			ch.Delete(key)
			ev := c.event(a, "node", "deregister")
			ev.Node, ev.From = n.Name, n.Address.String()
			ch.Events = append(ch.Events, ev)
			return ch, nil
		})
		if err != nil || last {
			return r, err
		}
	}
}

// DeregisterCheck takes out one check.
func (c *Catalog) DeregisterCheck(ctx context.Context, a Actor, node, id string) (Result, error) {
	return c.onCheck(ctx, node, id, func(ch *registry.Change, s *registry.Snapshot, k *registry.Check) error {
		if maintenance(k.ID) {
			var bad Invalid
			bad.Add("CheckID", id, "is kept for maintenance mode; end that instead")
			return bad.Err()
		}
		c.dropCheck(ch, s, a, k)
		return nil
	})
}

func (c *Catalog) dropCheck(ch *registry.Change, s *registry.Snapshot, a Actor, k *registry.Check) {
	key := registry.CheckKey(k.Node, k.ID)
	ch.Guards = append(ch.Guards, guard(key, k.Revisions))
	ch.Delete(key)
	ev := c.checkEvent(s, a, k, "deregister")
	ev.From = string(k.Status)
	ch.Events = append(ch.Events, ev)
}

func maintenance(check string) bool {
	return check == registry.NodeMaintenance || strings.HasPrefix(check, registry.ServiceMaintenance)
}
