package store

import (
	"context"
	"fmt"

	"github.com/resolverd/resolverd/registry"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// request is a change on its way to etcd.
type request struct {
	ctx     context.Context
	writes  []string // keys it puts or deletes
	guards  []guard
	ops     []clientv3.Op // the first `records` concern the registry, the rest the history
	records int
	puts    int
	bytes   int
	done    chan result // takes exactly one
}

type guard struct {
	key      string
	modified int64
}

type result struct {
	revision uint64
	err      error
}

// prepare turns a change into a request, or says why etcd would refuse it.
func (s *Store) prepare(ctx context.Context, c registry.Change) (*request, error) {
	r := &request{ctx: ctx, done: make(chan result, 1)}
	seen := make(map[string]struct{}, len(c.Puts)+len(c.Deletes))
	write := func(k registry.Key) (string, error) {
		key := k.String()
		if _, twice := seen[key]; twice {
			return "", fmt.Errorf("store: %s is written twice in one change", key)
		}
		seen[key] = struct{}{}
		r.writes = append(r.writes, key)
		r.bytes += len(key)
		return key, nil
	}
	for _, p := range c.Puts {
		key, err := write(p.Key)
		if err != nil {
			return nil, err
		}
		if p.Value == nil {
			return nil, fmt.Errorf("store: %s is put without a value", key)
		}
		r.bytes += len(p.Value)
		r.ops = append(r.ops, clientv3.OpPut(key, string(p.Value)))
	}
	r.puts = len(r.ops)
	for _, d := range c.Deletes {
		key, err := write(d)
		if err != nil {
			return nil, err
		}
		r.ops = append(r.ops, clientv3.OpDelete(key))
	}
	r.records = len(r.ops)
	for _, g := range c.Guards {
		r.guards = append(r.guards, guard{key: g.Key.String(), modified: int64(g.Modified)})
	}
	for _, e := range c.Events {
		key, value := s.event(e)
		r.bytes += len(key) + len(value)
		r.ops = append(r.ops, clientv3.OpPut(key, value))
	}
	if len(r.ops) > maxTxnOps || len(r.guards) > maxTxnOps || r.bytes > maxChangeBytes {
		return nil, fmt.Errorf("%w: %d operations, %d guards, %d bytes", ErrTooLarge, len(r.ops), len(r.guards), r.bytes)
	}
	return r, nil
}

// pick takes from the pending requests, in their order, those that can go into one
// transaction, and returns them and the rest. No key that one of a group writes is
// written or guarded by another, for all guards of a transaction are judged before any
// of its writes. A request that waits holds back all later ones that touch its keys, so
// requests on one key stay in order.
func pick(pending []*request) (group, rest []*request) {
	written, guarded := map[string]bool{}, map[string]bool{}
	ops, guards, bytes, full := 0, 0, 0, false
	for _, r := range pending {
		fits := len(group) < maxGroup && ops+len(r.ops) <= maxTxnOps &&
			guards+len(r.guards) <= maxTxnOps && bytes+r.bytes <= maxChangeBytes
		full = full || !fits
		if !full && !overlaps(r, written, guarded) {
			group = append(group, r)
			ops, guards, bytes = ops+len(r.ops), guards+len(r.guards), bytes+r.bytes
		} else {
			rest = append(rest, r)
		}
		for _, k := range r.writes {
			written[k] = true
		}
		for _, g := range r.guards {
			guarded[g.key] = true
		}
	}
	return group, rest
}

func overlaps(r *request, written, guarded map[string]bool) bool {
	for _, k := range r.writes {
		if written[k] || guarded[k] {
			return true
		}
	}
	for _, g := range r.guards {
		if written[g.key] {
			return true
		}
	}
	return false
}
