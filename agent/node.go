package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/catalog"
)

var self = catalog.Actor{Name: "agent"}

// enterNode registers this host. What others put into its record beside (networks) stays.
func (a *agent) enterNode(ctx context.Context) error {
	n := &registry.Node{
		Name: a.cfg.Node, ID: a.cfg.NodeID, Address: registry.HostOf(a.cfg.Address),
		Meta: a.cfg.Meta, Zone: a.cfg.Zone, Agent: true,
	}
	for o := range a.view.Load().Nodes() {
		switch {
		case registry.Fold(o.Name) == registry.Fold(n.Name):
			n.Networks = o.Networks
			if o.Agent && o.ID != "" && n.ID != "" && o.ID != n.ID {
				a.log.Warn("agent: the node was registered with another id: was its data directory moved or copied?", "node", n.Name, "was", o.ID, "is", n.ID)
			}
		case n.ID != "" && o.ID == n.ID:
			a.log.Warn("agent: this host is also registered under another name; deregister that node if it was renamed", "node", n.Name, "other", o.Name)
		}
	}
	res, err := a.catalog.Register(ctx, self, catalog.Registration{Node: n})
	if err != nil {
		return fmt.Errorf("agent: register node %q: %w", a.cfg.Node, err)
	}
	if res.Changed {
		a.log.Info("node registered", "node", n.Name, "address", a.cfg.Address)
	}
	a.event(ctx, "start", "version "+a.cfg.Version)
	return nil
}

// keepAlive holds the node's lease. A stop leaves a marker in its place, which lasts for
// the grace: a stop is no leave, and the instances stay.
func (a *agent) keepAlive(context.Context) error {
	a.onStop(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		a.event(ctx, "stop", "")
		rev, err := a.store.Pause(ctx, a.cfg.Node, a.cfg.Grace)
		if err != nil {
			a.log.Warn("agent: stop marker", "error", err)
			return
		}
		a.shown(ctx, rev)
		a.hub.Await(ctx, rev, visibleWait)
	})
	a.spawn("lease", func(ctx context.Context) error {
		return a.store.KeepAlive(ctx, a.cfg.Node, a.cfg.AliveTTL)
	})
	return nil
}

// event notes in the history what the agent itself did.
func (a *agent) event(ctx context.Context, action, reason string) {
	_, err := a.store.Commit(ctx, registry.Change{Events: []registry.Event{{
		Time: time.Now().UTC(), Subject: "node", Action: action, Node: a.cfg.Node, Actor: self.Name, Reason: reason,
	}}})
	if err != nil {
		a.log.Warn("agent: note in the history", "action", action, "error", err)
	}
}

// shown waits until the agent's own view, and so the hub, has the revision.
func (a *agent) shown(ctx context.Context, revision uint64) {
	for {
		bell, leave := a.view.Listen(registry.Topic{Kind: registry.TopicAny})
		if a.view.Load().Revision >= revision {
			leave()
			return
		}
		select {
		case <-bell:
			leave()
		case <-ctx.Done():
			leave()
			return
		}
	}
}
