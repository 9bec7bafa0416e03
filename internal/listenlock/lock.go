package listenlock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Lock is one lock file, locked until Close.
type Lock struct{ f *os.File }

// DataDir locks the data directory dir, which must exist, by its file "lock". command
// names us to whom it refuses. The error is [*Held] where another process holds it.
func DataDir(dir, command string) (*Lock, error) {
	f, err := open(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	if err := flock(f, unix.LOCK_EX); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &Held{What: "data directory " + dir, Holder: readHolder(f)}
		}
		return nil, fmt.Errorf("listenlock: %w", err)
	}
	if err := writeHolder(f, command, time.Now()); err != nil {
		f.Close()
		return nil, fmt.Errorf("listenlock: %w", err)
	}
	return &Lock{f}, nil
}

// Close gives the lock up.
func (l *Lock) Close() error { return l.f.Close() }

func open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("listenlock: %w", err)
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("listenlock: %w", err)
	}
	return f, nil
}

// flock does not wait: EWOULDBLOCK where another holds it.
func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
