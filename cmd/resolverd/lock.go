package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// lockFile holds path for this process until the returned file is closed or the process
// ends. Where another holds it, the error says who. The file stays: removing it would
// let two processes hold two files of one name.
func lockFile(path, what string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		if errors.Is(err, os.ErrPermission) {
			return nil, fail(exitDenied, "start it as the user that "+what+" belongs to, or choose another --data-dir", "%w", err)
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder, _ := io.ReadAll(io.LimitReader(f, 256))
		f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		who := strings.TrimSpace(string(holder))
		if who == "" {
			who = "another process"
		}
		return nil, fail(exitInUse, "stop that one, or give this one another --data-dir", "%s is in use by %s", what, who)
	}
	if err := f.Truncate(0); err == nil {
		fmt.Fprintf(f, "pid %d (%s)\n", os.Getpid(), strings.Join(os.Args[:min(2, len(os.Args))], " "))
	}
	return f, nil
}
