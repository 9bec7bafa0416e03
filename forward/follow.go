package forward

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// followPoll is how often files are read without a hint: a bind mount or a network
	// file system gives none, and what is ours may have changed.
	followPoll = 5 * time.Second
	// followSettle is how long a burst of changes may take.
	followSettle = 50 * time.Millisecond
)

// follower reports changes of files. It watches the directories, of the file and of
// what it links to: editors and DHCP clients replace a file rather than write it, and
// systemd-resolved's is a link.
type follower struct {
	files   []string
	watcher *fsnotify.Watcher // nil: polling alone
	dirs    []string          // watched
}

func follow(files []string, log *slog.Logger) *follower {
	f := &follower{files: files}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("cannot watch files, polling them", "error", err, "interval", followPoll)
		return f
	}
	f.watcher = w
	f.aim()
	return f
}

// aim watches the directories that the files live in now.
func (f *follower) aim() {
	if f.watcher == nil {
		return
	}
	var want []string
	for _, path := range f.files {
		want = append(want, filepath.Dir(path))
		if target, err := filepath.EvalSymlinks(path); err == nil {
			want = append(want, filepath.Dir(target))
		}
	}
	kept := f.dirs[:0]
	for _, d := range f.dirs {
		if !slices.Contains(want, d) {
			_ = f.watcher.Remove(d)
			continue
		}
		kept = append(kept, d)
	}
	f.dirs = kept
	for _, d := range want {
		// One that is not there yet is tried again at the next poll.
		if !slices.Contains(f.dirs, d) && f.watcher.Add(d) == nil {
			f.dirs = append(f.dirs, d)
		}
	}
}

// run calls changed after each change that may concern the files, and at intervals,
// until ctx ends.
func (f *follower) run(ctx context.Context, changed func()) {
	var (
		events chan fsnotify.Event
		errs   chan error
	)
	if f.watcher != nil {
		defer f.watcher.Close()
		events, errs = f.watcher.Events, f.watcher.Errors
	}
	poll := time.NewTicker(followPoll)
	defer poll.Stop()
	settle := time.NewTimer(time.Hour)
	settle.Stop()
	defer settle.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			settle.Reset(followSettle)
			// Not again until it has fired, or a busy directory would put it off for ever.
			f.drain(ctx, events, settle.C)
		case _, ok := <-errs:
			if !ok {
				errs = nil
				continue
			}
		case <-poll.C:
		}
		if ctx.Err() != nil {
			return
		}
		f.aim()
		changed()
	}
}

// drain swallows events until the timer fires.
func (f *follower) drain(ctx context.Context, events <-chan fsnotify.Event, fired <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-fired:
			return
		case _, ok := <-events:
			if !ok {
				events = nil
			}
		}
	}
}
