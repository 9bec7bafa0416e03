package listenlock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Dir returns the directory for locks on addresses, made where it is missing: what
// systemd names in RUNTIME_DIRECTORY, /run/resolverd for root, and for others
// XDG_RUNTIME_DIR/resolverd, /tmp/resolverd-UID or their cache directory, the first that
// is theirs alone.
func Dir() (string, error) {
	var errs []error
	for _, d := range candidates(os.Getuid(), os.Getenv) {
		err := own(d)
		if err == nil {
			return d, nil
		}
		errs = append(errs, err)
	}
	return "", fmt.Errorf("listenlock: no directory for locks: %w", errors.Join(errs...))
}

func candidates(uid int, env func(string) string) []string {
	var out []string
	if d, _, _ := strings.Cut(env("RUNTIME_DIRECTORY"), ":"); d != "" {
		out = append(out, d)
	}
	if uid == 0 {
		return append(out, "/run/resolverd")
	}
	if d := env("XDG_RUNTIME_DIR"); filepath.IsAbs(d) {
		out = append(out, filepath.Join(d, "resolverd"))
	}
	out = append(out, fmt.Sprintf("/tmp/resolverd-%d", uid))
	if d := env("HOME"); filepath.IsAbs(d) {
		out = append(out, filepath.Join(d, ".cache", "resolverd"))
	}
	return out
}

// own makes dir, or checks that the one that is there is a directory (not a link to
// one), is ours or root's, and that nobody else can write in it.
func own(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch {
	case !fi.IsDir():
		return fmt.Errorf("%s is no directory", dir)
	case !ok || st.Uid != uint32(os.Getuid()):
		return fmt.Errorf("%s belongs to another user", dir)
	case fi.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s can be written by others (mode %04o)", dir, fi.Mode().Perm())
	}
	return nil
}
