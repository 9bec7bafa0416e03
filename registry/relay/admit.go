package relay

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// ErrNotAdmitted is returned for a peer that is not one of those who may follow.
var ErrNotAdmitted = errors.New("relay: the peer's user may not follow")

// Listen makes the socket on which a hub serves, with mode 0660; its directory is made
// with 0750 if it is not there, and keeps out others. A socket that a killed process
// left is replaced: the caller holds the data directory's lock, so nobody is behind it.
func Listen(path string) (*net.UnixListener, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("relay: others may enter %s: chmod 0750 %s", dir, dir)
	}
	if st, err := os.Lstat(path); err == nil {
		if st.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("relay: %s is there and is no socket", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("relay: %w", err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		l.Close()
		return nil, fmt.Errorf("relay: %w", err)
	}
	return l, nil
}

// admit asks the kernel who is at the other end of a Unix socket (SO_PEERCRED) and
// refuses all but root, this process's own user and those that are listed.
func admit(c net.Conn, uids []int) error {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("%w: not a Unix socket", ErrNotAdmitted)
	}
	uid, err := peerUID(u)
	if err != nil {
		return err
	}
	if !admitted(uid, uids) {
		return fmt.Errorf("%w: uid %d", ErrNotAdmitted, uid)
	}
	return nil
}

func admitted(uid int, uids []int) bool {
	return uid == 0 || uid == os.Geteuid() || slices.Contains(uids, uid)
}

func peerUID(c *net.UnixConn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("relay: %w", err)
	}
	var cred *unix.Ucred
	var inner error
	err = raw.Control(func(fd uintptr) {
		cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, inner); err != nil {
		return 0, fmt.Errorf("relay: credentials of the peer: %w", err)
	}
	return int(cred.Uid), nil
}
