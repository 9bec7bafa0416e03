package store

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// keepRevisions is how far back one may resume in any case, keepForFollower how far
	// as long as a follower is that late.
	keepRevisions   = 100
	keepForFollower = 20_000
	// compactAfter so many revisions, or so many more bytes in use, old revisions are
	// compacted at once.
	compactAfter = 50_000
	compactGrown = 64 << 20
	// defragMin is the size from which a database that is more than half empty is
	// defragmented, at most once in defragPause while it is small against its quota: etcd
	// uses free pages again, and writes wait while it is done.
	defragMin   = 64 << 20
	defragPause = 30 * time.Minute
)

// wake has upkeep run soon, for there is no space left.
func (s *Store) wake() {
	select {
	case s.nudge <- struct{}{}:
	default:
	}
}

// upkeep keeps the store from growing: history trimmed, old revisions compacted, the
// file defragmented, an alarm of the quota taken back when there is room again.
func (s *Store) upkeep() {
	full := time.NewTicker(s.cfg.Upkeep)
	defer full.Stop()
	often := time.NewTicker(max(s.cfg.Upkeep/60, 50*time.Millisecond))
	defer often.Stop()
	for {
		var err error
		select {
		case <-s.ctx.Done():
			return
		case <-s.nudge:
			err = s.makeRoom(s.ctx)
		case <-often.C:
			if _, used := s.Size(); used-s.used.Load() > compactGrown || s.etcd.Server.KV().Rev()-s.trimmed.Load() > compactAfter {
				err = s.compact(s.ctx, keepRevisions)
			}
		case <-full.C:
			err = s.tidy(s.ctx)
		}
		if err != nil && s.ctx.Err() == nil {
			s.log.Warn("store: upkeep", "error", err)
		}
	}
}

// tidy is the regular upkeep.
func (s *Store) tidy(ctx context.Context) error {
	return errors.Join(s.trimHistory(ctx), s.compact(ctx, keepRevisions), s.defragment(ctx))
}

// compact drops the revisions older than the last `keep`, and than what a follower has
// yet to see.
func (s *Store) compact(ctx context.Context, keep int64) error {
	now := s.etcd.Server.KV().Rev()
	rev := now - keep
	s.mu.Lock()
	for f := range s.follows {
		if at := f.Load(); at > now-keepForFollower {
			rev = min(rev, at)
		}
	}
	s.mu.Unlock()
	if rev <= s.trimmed.Load() || rev <= 0 {
		return nil
	}
	_, err := s.client.Compact(ctx, rev, clientv3.WithCompactPhysical())
	if err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		return err
	}
	_, used := s.Size()
	s.trimmed.Store(rev)
	s.used.Store(used)
	return nil
}

// defragment gives free space in the file back. Reads and writes of the store wait
// meanwhile; views do not.
func (s *Store) defragment(ctx context.Context) error {
	b := s.etcd.Server.Backend()
	size, used := b.Size(), b.SizeInUse()
	if size < defragMin || used > size/2 {
		return nil
	}
	start := time.Now()
	if start.Sub(time.Unix(s.defragged.Load(), 0)) < defragPause && size < s.cfg.Quota/2 {
		return nil
	}
	s.defragged.Store(start.Unix())
	if err := b.Defrag(); err != nil {
		return err
	}
	s.log.Info("store: defragmented", "before_bytes", size, "after_bytes", b.Size(), "took", time.Since(start))
	return nil
}

// makeRoom does all that can be done where the quota is reached, and takes the alarm
// back if that helped.
func (s *Store) makeRoom(ctx context.Context) error {
	s.log.Warn("store: the database has reached its quota, making room", "quota_bytes", s.cfg.Quota)
	err := errors.Join(s.compact(ctx, 0), s.etcd.Server.Backend().Defrag())
	if err != nil {
		return err
	}
	if s.etcd.Server.Backend().Size() > s.cfg.Quota-s.cfg.Quota/10 {
		return errors.New("the quota is reached and nothing can be freed; deregister what is no longer used, or raise the quota")
	}
	_, err = s.client.AlarmDisarm(ctx, &clientv3.AlarmMember{Alarm: etcdserverpb.AlarmType_NOSPACE, MemberID: uint64(s.etcd.Server.MemberID())})
	return err
}

// Size returns the size of the database file in bytes and how much of it is in use.
func (s *Store) Size() (file, used int64) {
	b := s.etcd.Server.Backend()
	return b.Size(), b.SizeInUse()
}
