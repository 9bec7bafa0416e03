package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"

	"github.com/resolverd/resolverd/cmd/resolverd/settings"
)

// identity is a user of this host.
type identity struct{ uid, gid int }

// answererIdentity is whom the answerer runs as; other says that it is not the user
// that started resolverd.
func answererIdentity(s settings.Settings) (id identity, other bool, err error) {
	id = identity{os.Geteuid(), os.Getegid()}
	if s.Answerer.User == "" {
		return id, false, nil
	}
	u, err := user.Lookup(s.Answerer.User)
	if err != nil {
		return id, false, fmt.Errorf("answerer.user: %w", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return id, false, fmt.Errorf("answerer.user: %w", err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return id, false, fmt.Errorf("answerer.user: %w", err)
	}
	if uid == id.uid {
		return id, false, nil
	}
	if id.uid != 0 {
		return id, false, fail(exitDenied, "start resolverd as root, or leave answerer.user out", "answerer.user: only root can start a process as %s", s.Answerer.User)
	}
	return identity{uid, gid}, true, nil
}

// makeDirs makes the data directory and its parts, each for whom it belongs to.
func makeDirs(s settings.Settings) error {
	answerer, other, err := answererIdentity(s)
	if err != nil {
		return err
	}
	top, run := fs.FileMode(0o700), fs.FileMode(0o750)
	if other {
		// The answerer must pass through, and make its socket.
		top, run = 0o711, 0o770
	}
	if err := os.MkdirAll(s.DataDir, top); err != nil {
		return dirError(s.DataDir, err)
	}
	for _, d := range []struct {
		path     string
		mode     fs.FileMode
		uid, gid int
	}{
		{s.DataDir, top, -1, -1},
		{s.AgentDir(), 0o700, -1, -1},
		{s.AnswererDir(), 0o700, answerer.uid, answerer.gid},
		{s.RunDir(), run, -1, answerer.gid},
	} {
		if err := os.Mkdir(d.path, d.mode); err != nil && !errors.Is(err, fs.ErrExist) {
			return dirError(d.path, err)
		}
		fi, err := os.Lstat(d.path)
		if err != nil {
			return dirError(d.path, err)
		}
		if !fi.IsDir() && d.path != s.DataDir {
			return fail(exitUsage, "", "%s is no directory", d.path)
		}
		st, _ := fi.Sys().(*syscall.Stat_t)
		mine := st != nil && int(st.Uid) == os.Geteuid()
		if other {
			if err := os.Chown(d.path, d.uid, d.gid); err != nil {
				return dirError(d.path, err)
			}
		}
		if (mine || os.Geteuid() == 0) && fi.Mode().Perm() != d.mode && d.path != s.DataDir {
			if err := os.Chmod(d.path, d.mode); err != nil {
				return dirError(d.path, err)
			}
		}
	}
	return nil
}

// makeAnswererDir makes what `resolverd answer` needs when it runs alone. Under the
// supervisor everything is there.
func makeAnswererDir(s settings.Settings) error {
	for _, d := range []struct {
		path string
		mode fs.FileMode
	}{{s.DataDir, 0o700}, {s.AnswererDir(), 0o700}, {s.RunDir(), 0o750}} {
		if err := os.MkdirAll(d.path, d.mode); err != nil {
			return dirError(d.path, err)
		}
	}
	return nil
}

func dirError(path string, err error) error {
	hint := "choose another with --data-dir"
	if errors.Is(err, fs.ErrPermission) {
		return &failure{code: exitDenied, err: fmt.Errorf("data directory: %w", err), hint: hint}
	}
	return &failure{code: exitFailure, err: fmt.Errorf("data directory %s: %w", path, err), hint: hint}
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// nodeID returns the UUID of the data directory, making one the first time.
func nodeID(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err == nil {
		if id := strings.TrimSpace(string(b)); uuid.MatchString(id) {
			return id, nil
		}
		return "", fail(exitUsage, "put the UUID back, or remove the file to get a new one", "%s holds no UUID", path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("node id: %w", err)
	}
	var r [16]byte
	_, _ = rand.Read(r[:]) // never fails
	r[6], r[8] = r[6]&0x0f|0x40, r[8]&0x3f|0x80
	id := fmt.Sprintf("%x-%x-%x-%x-%x", r[:4], r[4:6], r[6:8], r[8:10], r[10:])
	if err := renameio.WriteFile(path, []byte(id+"\n"), 0o644); err != nil {
		return "", fmt.Errorf("node id: %w", err)
	}
	return id, nil
}
