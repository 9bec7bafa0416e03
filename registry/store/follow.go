package store

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/resolverd/resolverd/registry"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const followPage = 5000

// Follow calls f with what changes, until the context ends or f returns an error, which
// it returns. From 0 the first batch is whole; else batches begin with the revision after
// from. Each further batch is what one revision changed. Where the revisions after from
// are compacted away, a whole batch comes again.
func (s *Store) Follow(ctx context.Context, from uint64, f func(registry.Batch) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	rev := int64(from)
	var seen atomic.Int64 // upkeep compacts no further
	seen.Store(rev)
	s.mu.Lock()
	s.follows[&seen] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.follows, &seen)
		s.mu.Unlock()
	}()
	for {
		if rev == 0 {
			b, err := s.whole(ctx)
			if errors.Is(err, rpctypes.ErrCompacted) {
				continue // compacted between two pages
			}
			if err != nil {
				return s.ended(ctx, fmt.Errorf("store: read the registry: %w", err))
			}
			if err := f(b); err != nil {
				return err
			}
			rev = int64(b.Revision)
			seen.Store(rev)
		}
		err := s.deltas(ctx, &rev, func(b registry.Batch) error {
			defer seen.Store(int64(b.Revision))
			return f(b)
		})
		if err != nil {
			return s.ended(ctx, err)
		}
		select {
		case <-ctx.Done():
			return s.ended(ctx, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// ended tells a store that was closed from a caller that left.
func (s *Store) ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && s.ctx.Err() != nil {
		return ErrClosed
	}
	return err
}

// whole reads everything by pages, all at the revision of the first.
func (s *Store) whole(ctx context.Context) (registry.Batch, error) {
	b := registry.Batch{Whole: true}
	from, end := registry.Prefix, clientv3.GetPrefixRangeEnd(registry.Prefix)
	opts := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(followPage)}
	for {
		res, err := s.client.Get(ctx, from, opts...)
		if err != nil {
			return b, err
		}
		if b.Revision == 0 {
			b.Revision = uint64(res.Header.Revision)
			b.Records = make([]registry.Record, 0, res.Count)
			opts = append(opts, clientv3.WithRev(res.Header.Revision), clientv3.WithSerializable())
		}
		for _, kv := range res.Kvs {
			if r, ok := s.record(kv, false); ok {
				b.Records = append(b.Records, r)
			}
		}
		if !res.More {
			return b, nil
		}
		from = string(res.Kvs[len(res.Kvs)-1].Key) + "\x00"
	}
}

// deltas watches from *rev on. It returns nil where the watch ended and is to be taken
// up again, at *rev, which is 0 after a compaction.
func (s *Store) deltas(ctx context.Context, rev *int64, f func(registry.Batch) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for w := range s.client.Watch(ctx, registry.Prefix, clientv3.WithPrefix(), clientv3.WithRev(*rev+1)) {
		if w.CompactRevision != 0 {
			s.log.Warn("store: the follower is behind the compaction, reading everything again", "revision", *rev, "compacted", w.CompactRevision)
			*rev = 0
			return nil
		}
		if err := w.Err(); err != nil {
			if ctx.Err() == nil {
				s.log.Warn("store: watch ended, taking it up again", "revision", *rev, "error", err)
			}
			return nil
		}
		for i := 0; i < len(w.Events); {
			at := w.Events[i].Kv.ModRevision
			b := registry.Batch{Revision: uint64(at)}
			for ; i < len(w.Events) && w.Events[i].Kv.ModRevision == at; i++ {
				if r, ok := s.record(w.Events[i].Kv, w.Events[i].Type == mvccpb.DELETE); ok {
					b.Records = append(b.Records, r)
				}
			}
			if err := f(b); err != nil {
				return err
			}
			*rev = at
		}
	}
	return nil
}

// record makes a record of what etcd holds; false for a key that is none.
func (s *Store) record(kv *mvccpb.KeyValue, deleted bool) (registry.Record, bool) {
	k, err := registry.ParseKey(string(kv.Key))
	if err != nil {
		s.log.Warn("store: unreadable key left out", "key", string(kv.Key), "error", err)
		return registry.Record{}, false
	}
	r := registry.Record{Key: k, Modified: uint64(kv.ModRevision)}
	if !deleted {
		r.Created = uint64(kv.CreateRevision)
		r.Value = kv.Value
		if r.Value == nil {
			r.Value = []byte{}
		}
	}
	return r, true
}
