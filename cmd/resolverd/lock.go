package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/resolverd/resolverd/internal/listenlock"
)

// lockDir takes the lock of a directory for the life of this process; an error says who
// holds it.
func lockDir(dir, command string) (*listenlock.Lock, error) {
	l, err := listenlock.DataDir(dir, command)
	return l, lockError(err)
}

// lockError gives an error of package listenlock its exit code.
func lockError(err error) error {
	var held *listenlock.Held
	var taken *listenlock.Taken
	switch {
	case err == nil:
		return nil
	case errors.As(err, &held), errors.As(err, &taken):
		return &failure{code: exitInUse, err: err, hint: hintOf(err)}
	case errors.Is(err, fs.ErrPermission):
		return &failure{code: exitDenied, err: err, hint: "start it as the user that the directory belongs to, or choose another --data-dir"}
	}
	return fmt.Errorf("lock: %w", err)
}
