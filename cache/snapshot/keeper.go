package snapshot

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/resolverd/resolverd/cache"
)

// DefaultInterval is how often a cache that changed is written.
const DefaultInterval = 5 * time.Minute

// Options say where and when a cache is kept.
type Options struct {
	// File is the snapshot, in a directory that only this user may enter. Other caches
	// have other files.
	File string
	// Log takes damage and failing disks; nil discards.
	Log *slog.Logger
}

// Keeper keeps one cache in one file. Its methods are safe for concurrent use.
type Keeper struct {
	c *cache.Cache
	o Options

	end      chan struct{}
	nudge    chan struct{} // 1 slot
	work     sync.WaitGroup
	settled  atomic.Bool  // the file was read: it may be written
	interval atomic.Int64 // nanoseconds; 0 is off

	mu      sync.Mutex // guards all below, and the file against removal while it is replaced
	started bool
	closed  bool
	flushes int
	written uint64 // Changes of the cache when it was written last
	status  Status
}

// Status is what became of a snapshot.
type Status struct {
	// Loaded are the entries that were read at start, Loading says that it goes on.
	Loaded  int  `json:"loaded"`
	Loading bool `json:"loading"`
	// Entries and Written are how many were written last, and when; zero: never yet.
	Entries int       `json:"entries"`
	Written time.Time `json:"written"`
	// Failures counts what could not be read or written.
	Failures uint64 `json:"failures"`
}

// Open returns the keeper of a cache. Nothing is read or written before Keep.
func Open(c *cache.Cache, o Options) *Keeper {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	k := &Keeper{c: c, o: o, end: make(chan struct{}), nudge: make(chan struct{}, 1)}
	c.OnFlush(k.flushed)
	return k
}

// Keep writes the cache whenever it has changed and the interval has passed. The first
// call with an interval above 0 has the file read in the background, without what is
// staler than maxStale. With 0 there is no file any more.
func (k *Keeper) Keep(interval, maxStale time.Duration) {
	was := k.interval.Swap(int64(interval))
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.closed:
	case interval <= 0:
		if was > 0 {
			k.remove()
		}
	case !k.started:
		k.started, k.status.Loading = true, true
		k.work.Go(func() { k.run(maxStale) })
	default:
		k.wake()
	}
}

func (k *Keeper) wake() {
	select {
	case k.nudge <- struct{}{}:
	default:
	}
}

// Close writes the cache if it is kept and has changed, and ends.
func (k *Keeper) Close() error {
	k.mu.Lock()
	was := k.closed
	k.closed = true
	k.mu.Unlock()
	if was {
		return nil
	}
	close(k.end)
	k.work.Wait()
	k.c.OnFlush(nil)
	if !k.settled.Load() {
		return nil // the file has what the cache has not
	}
	return k.write()
}

// Status returns the status.
func (k *Keeper) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.status
}

func (k *Keeper) run(maxStale time.Duration) {
	k.load(maxStale)
	for {
		wait := time.Duration(k.interval.Load())
		if wait <= 0 {
			wait = time.Hour // it is off
		}
		due := time.NewTimer(wait)
		select {
		case <-k.end:
			due.Stop()
			return
		case <-due.C:
		case <-k.nudge:
			due.Stop()
		}
		_ = k.write() // it has logged why
	}
}

// load reads the file into the cache.
func (k *Keeper) load(maxStale time.Duration) {
	epoch := k.c.Epoch().Load()
	n, err := k.read(maxStale, epoch)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.status.Loading, k.status.Loaded = false, n
	k.settled.Store(true)
	switch {
	case err == nil:
		k.o.Log.Info("cache read from disk", "file", k.o.File, "entries", n)
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, errEnded):
		k.settled.Store(false)
	default:
		k.written = math.MaxUint64 // it is not what the cache is
		k.status.Failures++
		k.o.Log.Warn("cache on disk left out, as far as it is damaged", "file", k.o.File, "entries", n, "error", err)
	}
}

var errEnded = errors.New("ended")

func (k *Keeper) read(maxStale time.Duration, epoch uint64) (n int, err error) {
	f, err := os.OpenFile(k.o.File, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	ended := false
	// Times on disk are wall time; the cache counts by the clock that never jumps.
	now := time.Now()
	wall := now.Round(0)
	err = read(f, func(r cache.Record) bool {
		select {
		case <-k.end:
			ended = true
			return false
		default:
		}
		age := wall.Sub(r.Stored)
		if age < 0 {
			// The clock went back since: for how long it is true nobody knows.
			return true
		}
		r.Stored = now.Add(-age)
		if k.c.Restore(r, maxStale, epoch, now) {
			n++
		}
		return k.c.Epoch().Load() == epoch
	})
	if ended {
		err = errEnded
	}
	return n, err
}

// flushed removes the file, for the cache has less now, and has what is left written.
func (k *Keeper) flushed() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.remove()
	k.wake()
}

// remove removes the file; the caller holds mu.
func (k *Keeper) remove() {
	k.flushes++
	if err := os.Remove(k.o.File); err != nil && !errors.Is(err, fs.ErrNotExist) {
		k.status.Failures++
		k.o.Log.Warn("cache on disk not removed: what was flushed comes back with the next start", "file", k.o.File, "error", err)
	}
}

// write writes the cache if it has changed.
func (k *Keeper) write() error {
	k.mu.Lock()
	flushes, written := k.flushes, k.written
	k.mu.Unlock()
	changes := k.c.Changes()
	if changes == written || k.interval.Load() <= 0 {
		return nil
	}
	n, err := k.replace(flushes)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		k.status.Failures++
		k.o.Log.Warn("cache not written to disk", "file", k.o.File, "error", err)
		return fmt.Errorf("cache snapshot: %w", err)
	}
	k.written = changes
	k.status.Entries, k.status.Written = n, time.Now()
	return nil
}

// replace writes a new file and puts it in the place of the old one, unless there was a
// flush meanwhile: then another one is due.
func (k *Keeper) replace(flushes int) (int, error) {
	f, err := renameio.NewPendingFile(k.o.File, renameio.WithPermissions(0o600), renameio.WithTempDir(filepath.Dir(k.o.File)))
	if err != nil {
		return 0, err
	}
	defer f.Cleanup() //nolint:errcheck // what is left is removed by Sweep
	w := bufio.NewWriterSize(f, 64<<10)
	wall := time.Now()
	n, err := write(w, func(yield func(cache.Record) bool) {
		k.c.Each(func(r cache.Record) bool {
			r.Stored = wall.Add(r.Stored.Sub(wall)).Round(0)
			return yield(r)
		})
	})
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		return n, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.flushes != flushes {
		return n, nil
	}
	return n, f.CloseAtomicallyReplace()
}

// maxAge is how long a file stays of which no Corefile has the cache any more.
const maxAge = 7 * 24 * time.Hour

// Sweep removes from a directory of snapshots what a killed process left half written and
// what nobody wrote for a week.
func Sweep(dir string, now time.Time) error {
	all, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var errs []error
	for _, d := range all {
		i, err := d.Info()
		if err != nil || !i.Mode().IsRegular() {
			continue
		}
		if d.Name()[0] == '.' || now.Sub(i.ModTime()) > maxAge {
			errs = append(errs, os.Remove(filepath.Join(dir, d.Name())))
		}
	}
	return errors.Join(append(errs, err)...)
}
