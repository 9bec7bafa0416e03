package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/resolverd/resolverd/registry"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Errors of Commit, beside registry.ErrConflict and ErrClosed.
var (
	// ErrTooLarge is returned for a change of more than 4,096 operations or 4 MiB.
	ErrTooLarge = errors.New("store: the change is too large for one transaction")
	// ErrFull is returned while the database has reached its quota.
	ErrFull = errors.New("store: the database has reached its quota")
	// ErrUnknown is returned where the change may or may not have been written: etcd did
	// not answer in time, or the caller went away while it was under way.
	ErrUnknown = errors.New("store: it is not known whether the change was written")
)

const (
	queueLength   = 4096
	maxGroup      = 128
	commitTimeout = 10 * time.Second
)

// Commit writes a change and returns once it is on disk. All of it is written or none.
// The revision is that of the write, or 0 where no record of the registry was written or
// deleted: no view will ever show such a change.
//
// Errors: registry.ErrConflict where a guard did not hold, ErrTooLarge, ErrFull,
// ErrClosed, ErrUnknown, and the context's where it ended before the write began.
func (s *Store) Commit(ctx context.Context, c registry.Change) (uint64, error) {
	r, err := s.prepare(ctx, c)
	if err != nil {
		return 0, err
	}
	if len(r.ops) == 0 && len(r.guards) == 0 {
		return 0, nil
	}
	select {
	case <-s.ctx.Done():
		return 0, ErrClosed
	default:
	}
	select {
	case s.queue <- r:
	case <-ctx.Done():
		return 0, fmt.Errorf("store: commit: %w", ctx.Err())
	case <-s.ctx.Done():
		return 0, ErrClosed
	}
	select {
	case res := <-r.done:
		return res.revision, res.err
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())
	case <-s.ctx.Done():
	}
	// The committer answers all that it took before it ends; what nobody took is here.
	s.wg.Wait()
	select {
	case res := <-r.done:
		return res.revision, res.err
	default:
		return 0, ErrClosed
	}
}

// commit is the one writer. While a transaction is under way the next group gathers.
func (s *Store) commit() {
	var pending []*request
	for {
		if len(pending) == 0 {
			select {
			case r := <-s.queue:
				pending = append(pending, r)
			case <-s.ctx.Done():
				return
			}
		}
	gather:
		for len(pending) < 4*maxGroup {
			select {
			case r := <-s.queue:
				pending = append(pending, r)
			default:
				break gather
			}
		}
		if s.ctx.Err() != nil {
			for _, r := range pending {
				r.done <- result{err: ErrClosed}
			}
			return
		}
		var group []*request
		group, pending = pick(pending)
		s.write(group)
	}
}

// write commits a group and answers each of its requests. Where a guard fails, etcd
// tells in the same transaction which: those have their ErrConflict, and the others are
// tried again without them.
func (s *Store) write(group []*request) {
	group = s.live(group)
	for len(group) > 0 {
		res, err := s.transact(group)
		if err != nil {
			for _, r := range group {
				r.done <- result{err: err}
			}
			return
		}
		if res.Succeeded {
			s.answer(group, res)
			return
		}
		group = s.refuse(group, res)
	}
}

// live drops the requests whose callers went away before their write began.
func (s *Store) live(group []*request) []*request {
	keep := group[:0]
	for _, r := range group {
		if err := r.ctx.Err(); err != nil {
			r.done <- result{err: fmt.Errorf("store: commit: %w", err)}
			continue
		}
		keep = append(keep, r)
	}
	return keep
}

func (s *Store) transact(group []*request) (*clientv3.TxnResponse, error) {
	var cmps []clientv3.Cmp
	var then, reads []clientv3.Op
	for _, r := range group {
		then = append(then, r.ops...)
		for _, g := range r.guards {
			cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(g.key), "=", g.modified))
			reads = append(reads, clientv3.OpGet(g.key, clientv3.WithKeysOnly()))
		}
	}
	// Not the caller's context: a group has many, and none may end another's write.
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	res, err := s.client.Txn(ctx).If(cmps...).Then(then...).Else(reads...).Commit()
	switch {
	case err == nil:
		return res, nil
	case errors.Is(err, rpctypes.ErrNoSpace):
		s.wake()
		return nil, ErrFull
	case errors.Is(err, rpctypes.ErrRequestTooLarge), errors.Is(err, rpctypes.ErrTooManyOps):
		return nil, fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
}

// answer tells each request of a written group its revision.
func (s *Store) answer(group []*request, res *clientv3.TxnResponse) {
	at := 0
	for _, r := range group {
		touched := r.puts > 0
		for i := r.puts; i < r.records; i++ {
			touched = touched || res.Responses[at+i].GetResponseDeleteRange().Deleted > 0
		}
		at += len(r.ops)
		rev := uint64(0)
		if touched {
			rev = uint64(res.Header.Revision)
		}
		r.done <- result{revision: rev}
	}
}

// refuse answers the requests of which a guard failed, and returns the rest.
func (s *Store) refuse(group []*request, res *clientv3.TxnResponse) []*request {
	at := 0
	var rest []*request
	for _, r := range group {
		held := true
		for i, g := range r.guards {
			now := int64(0)
			if kvs := res.Responses[at+i].GetResponseRange().Kvs; len(kvs) > 0 {
				now = kvs[0].ModRevision
			}
			held = held && now == g.modified
		}
		at += len(r.guards)
		if held {
			rest = append(rest, r)
		} else {
			r.done <- result{err: registry.ErrConflict}
		}
	}
	if len(rest) == len(group) {
		// etcd judged and read in one step, so this cannot be; never loop on it.
		for _, r := range rest {
			r.done <- result{err: registry.ErrConflict}
		}
		return nil
	}
	return rest
}
