package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"path/filepath"

	engine "github.com/resolverd/resolverd/cache"
	"github.com/resolverd/resolverd/cache/snapshot"
	"github.com/resolverd/resolverd/internal/resident"
)

// kind is the kind under which the caches of this process are residents.
const kind = "cache"

// Store is the cache of a server block, which outlives a reload of the Corefile, and where
// the process has a directory for it, a restart.
type Store struct {
	*engine.Cache
	keeper *snapshot.Keeper // nil where it is not kept
}

// Each calls f with every cache of the process, in no order.
func Each(f func(*Store)) {
	resident.Each(kind, func(_ string, s *Store) { f(s) })
}

// newStore returns an empty cache that is kept in the file; with "" it is not kept.
func newStore(name, file string, opt options) (*Store, error) {
	c, err := engine.New(name, opt.size)
	if err != nil {
		return nil, err
	}
	s := &Store{Cache: c}
	if file != "" {
		s.keeper = snapshot.Open(c, snapshot.Options{File: file, Log: slog.Default()})
	}
	return s, nil
}

// fileOf returns the file of the cache with this key, or "" where the process keeps none.
func fileOf(key string) string {
	dir, ok := resident.Provided[string](ProvidedDir)
	if !ok {
		return ""
	}
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(dir, hex.EncodeToString(sum[:16]))
}

// keep keeps the cache on disk as the directive says.
func (s *Store) keep(opt options) {
	if s.keeper != nil {
		s.keeper.Keep(opt.snapshot, opt.stale.upTo)
	}
}

// Snapshot returns the status of the cache on disk, and whether it is kept there.
func (s *Store) Snapshot() (snapshot.Status, bool) {
	if s.keeper == nil {
		return snapshot.Status{}, false
	}
	return s.keeper.Status(), true
}

// Close writes the cache to disk, where it is kept, and empties it.
func (s *Store) Close() error {
	var err error
	if s.keeper != nil {
		err = s.keeper.Close()
	}
	return errors.Join(err, s.Cache.Close())
}
