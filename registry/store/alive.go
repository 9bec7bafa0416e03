package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/resolverd/resolverd/registry"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// MinTTL is the shortest time to live of an alive key.
const MinTTL = 5 * time.Second

// alive is the value of an alive key.
type alive struct {
	Since time.Time `json:"since"`
	// Stopped is when the node's agent stopped in good order, meaning to come back.
	Stopped *time.Time `json:"stopped,omitempty"`
}

// KeepAlive holds the node's alive key with a lease of ttl, rounded up to seconds and to
// MinTTL, until the context ends; then it returns nil and leaves the lease to run out.
// A lease that was lost is taken anew. It returns ErrClosed when the store closes.
func (s *Store) KeepAlive(ctx context.Context, node string, ttl time.Duration) error {
	return s.keepAlive(ctx, node, max(ttl, MinTTL))
}

func (s *Store) keepAlive(ctx context.Context, node string, ttl time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	since := s.cfg.Now()
	var lease clientv3.LeaseID
	t := time.NewTicker(ttl / 4)
	defer t.Stop()
	for {
		var err error
		step, done := context.WithTimeout(ctx, ttl/4)
		if lease != 0 {
			_, err = s.client.KeepAliveOnce(step, lease)
		}
		if lease == 0 || errors.Is(err, rpctypes.ErrLeaseNotFound) {
			lease, _, err = s.holdAlive(step, node, alive{Since: since}, ttl)
		}
		done()
		if err != nil && ctx.Err() == nil {
			s.log.Warn("store: the node's lease was not kept alive, trying again", "node", node, "error", err)
		}
		select {
		case <-ctx.Done():
			if s.ctx.Err() != nil {
				return ErrClosed
			}
			return nil
		case <-t.C:
		}
	}
}

// Pause marks the node as stopped in good order: its alive key stays for the grace, with
// the time of the stop, so that nobody takes the node for dead while it restarts. Call it
// when KeepAlive has returned. The revision is that of the write.
func (s *Store) Pause(ctx context.Context, node string, grace time.Duration) (uint64, error) {
	now := s.cfg.Now()
	_, rev, err := s.holdAlive(ctx, node, alive{Since: now, Stopped: &now}, max(grace, MinTTL))
	if err != nil {
		return 0, fmt.Errorf("store: mark the stop of %s: %w", node, err)
	}
	return rev, nil
}

func (s *Store) holdAlive(ctx context.Context, node string, v alive, ttl time.Duration) (clientv3.LeaseID, uint64, error) {
	lease, err := s.client.Grant(ctx, int64((ttl+time.Second-1)/time.Second))
	if err != nil {
		return 0, 0, err
	}
	b, _ := json.Marshal(v)
	res, err := s.client.Put(ctx, registry.AliveKey(node).String(), string(b), clientv3.WithLease(lease.ID))
	if err != nil {
		return 0, 0, err
	}
	return lease.ID, uint64(res.Header.Revision), nil
}
