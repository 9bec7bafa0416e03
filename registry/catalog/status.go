package catalog

import (
	"context"
	"fmt"

	"github.com/resolverd/resolverd/registry"
)

// SetStatus notes what a check found. Nothing is written where status and output are the
// same as before; the output is cut to MaxOutput octets.
func (c *Catalog) SetStatus(ctx context.Context, a Actor, node, checkID string, s registry.Status, output string) (Result, error) {
	var bad Invalid
	if !s.Valid() {
		bad.Add("Status", string(s), "must be passing, warning or critical")
		return Result{}, bad.Err()
	}
	output = cut(output, MaxOutput)
	return c.onCheck(ctx, node, checkID, func(ch *registry.Change, snap *registry.Snapshot, had *registry.Check) error {
		if maintenance(had.ID) {
			bad.Add("CheckID", checkID, "is kept for maintenance mode")
			return bad.Err()
		}
		if had.Ran && had.Status == s && had.Output == output {
			return nil
		}
		k := *had
		k.Status, k.Output, k.Ran = s, output, true
		key := registry.CheckKey(k.Node, k.ID)
		ch.Guards = append(ch.Guards, guard(key, had.Revisions))
		ch.Put(key, &k)
		if had.Status != s || !had.Ran {
			ev := c.checkEvent(snap, a, &k, "status")
			ev.From, ev.To = string(had.Status), string(s)
			if ev.Reason == "" {
				ev.Reason = cut(output, 256)
			}
			ch.Events = append(ch.Events, ev)
		}
		return nil
	})
}

// onCheck changes one check that is there.
func (c *Catalog) onCheck(ctx context.Context, node, id string, edit func(*registry.Change, *registry.Snapshot, *registry.Check) error) (Result, error) {
	of := ""
	if k := findCheck(c.view.Load().Node(node), id); k != nil {
		of = k.InstanceID
	}
	unlock, err := c.lock(ctx, node, of)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	return c.change(ctx, func(s *registry.Snapshot) (registry.Change, error) {
		var ch registry.Change
		k := findCheck(s.Node(node), id)
		if k == nil {
			return ch, fmt.Errorf("check %q on node %q: %w", id, node, ErrNotFound)
		}
		return ch, edit(&ch, s, k)
	})
}

// The reasons of a maintenance that was given none, as Consul words them.
const (
	noNodeReason    = "Maintenance mode is enabled for this node, but no reason was provided. This is a default message."
	noServiceReason = "Maintenance mode is enabled for this service, but no reason was provided. This is a default message."
)

// SetMaintenance takes an instance, or with an empty id all of the node's, out of
// answers by a critical check of Consul's name, or brings it back by removing that.
func (c *Catalog) SetMaintenance(ctx context.Context, a Actor, node, instanceID string, on bool, reason string) (Result, error) {
	unlock, err := c.lock(ctx, node, instanceID)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	reason = cut(reason, MaxNotes)
	if a.Reason == "" {
		a.Reason = reason
	}
	return c.change(ctx, func(s *registry.Snapshot) (registry.Change, error) {
		return c.maintain(s, a, node, instanceID, on, reason)
	})
}

func (c *Catalog) maintain(s *registry.Snapshot, a Actor, node, id string, on bool, reason string) (registry.Change, error) {
	var ch registry.Change
	n := s.Node(node)
	if n == nil {
		return ch, fmt.Errorf("node %q: %w", node, ErrNotFound)
	}
	want := &registry.Check{
		Node: n.Name, ID: registry.NodeMaintenance, Name: "Node Maintenance Mode",
		Notes: reason, Status: registry.Critical, Ran: true,
	}
	ev := c.event(a, "node", "maintenance")
	ev.Node = n.Name
	if want.Notes == "" {
		want.Notes = noNodeReason
	}
	if id != "" {
		i := s.Instance(node, id)
		if i == nil {
			return ch, fmt.Errorf("instance %q on node %q: %w", id, n.Name, ErrNotFound)
		}
		ch.Guards = append(ch.Guards, guard(registry.InstanceRecordKey(n.Name, id), i.Revisions))
		want.ID, want.InstanceID, want.Name = registry.ServiceMaintenance+id, id, "Service Maintenance Mode"
		if reason == "" {
			want.Notes = noServiceReason
		}
		ev.Subject, ev.Service, ev.ID = "instance", i.Service, id
	}
	had := findCheck(n, want.ID)
	key := registry.CheckKey(n.Name, want.ID)
	ev.From, ev.To = onOff(had != nil), onOff(on)
	switch {
	case on && had != nil && had.Notes == want.Notes, !on && had == nil:
		return registry.Change{}, nil
	case on:
		ch.Put(key, want)
	default:
		ch.Delete(key)
	}
	rev := registry.Revisions{}
	if had != nil {
		rev = had.Revisions
	}
	ch.Guards = append(ch.Guards, guard(key, rev))
	ch.Events = append(ch.Events, ev)
	return ch, nil
}

// SetDrain takes an instance, or with an empty id all that the node has now, out of A
// and AAAA and leaves it in SRV at weight 0, or ends that. A registration does not end a
// drain, unless it is an owner's changed definition without one.
func (c *Catalog) SetDrain(ctx context.Context, a Actor, node, instanceID string, on bool) (Result, error) {
	if instanceID != "" {
		unlock, err := c.lock(ctx, node, instanceID)
		if err != nil {
			return Result{}, err
		}
		defer unlock()
	}
	var all Result
	for {
		more := false
		r, err := c.change(ctx, func(s *registry.Snapshot) (ch registry.Change, err error) {
			ch, more, err = c.drain(s, a, node, instanceID, on)
			return ch, err
		})
		all = Result{Changed: all.Changed || r.Changed, Revision: max(all.Revision, r.Revision)}
		if err != nil || !more {
			return all, err
		}
	}
}

func (c *Catalog) drain(s *registry.Snapshot, a Actor, node, id string, on bool) (ch registry.Change, more bool, err error) {
	n := s.Node(node)
	if n == nil {
		return ch, false, fmt.Errorf("node %q: %w", node, ErrNotFound)
	}
	list := n.Instances
	if id != "" {
		i := s.Instance(node, id)
		if i == nil {
			return ch, false, fmt.Errorf("instance %q on node %q: %w", id, n.Name, ErrNotFound)
		}
		list = []*registry.InstanceState{i}
	}
	for _, i := range list {
		if i.Drain == on {
			continue
		}
		if len(ch.Puts) >= changeSize {
			return ch, true, nil
		}
		d := *i.Instance
		d.Drain = on
		k := registry.InstanceRecordKey(i.Node, i.ID)
		ch.Guards = append(ch.Guards, guard(k, i.Revisions))
		ch.Put(k, &d)
		ev := c.event(a, "instance", "drain")
		ev.Node, ev.Service, ev.ID, ev.From, ev.To = i.Node, i.Service, i.ID, onOff(!on), onOff(on)
		ch.Events = append(ch.Events, ev)
	}
	return ch, false, nil
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}
