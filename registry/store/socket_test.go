package store_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/resolverd/resolverd/registry/store"
)

// sockets returns the sockets of this process by inode, each as the kernel's tables show
// it: TCP, UDP, Unix sockets by path and abstract ones (@...).
func sockets(t *testing.T) map[string]string {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	own := map[string]string{}
	for _, fd := range fds {
		to, err := os.Readlink(filepath.Join("/proc/self/fd", fd.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		var inode int
		if n, _ := fmt.Sscanf(to, "socket:[%d]", &inode); n == 1 {
			own[fmt.Sprint(inode)] = to
		}
	}
	for _, file := range []string{"unix", "tcp", "tcp6", "udp", "udp6"} {
		b, err := os.ReadFile("/proc/net/" + file)
		if err != nil {
			continue // a kernel without IPv6
		}
		column := 9
		if file == "unix" {
			column = 6
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > column && own[f[column]] != "" {
				own[f[column]] = file + " " + strings.TrimSpace(line)
			}
		}
	}
	return own
}

// TestNobodyElseCanReachTheStore looks for anything that Open leaves listening, and shows
// first that it would find it.
func TestNobodyElseCanReachTheStore(t *testing.T) {
	before := sockets(t)
	news := func() (out []string) {
		for inode, what := range sockets(t) {
			if before[inode] == "" {
				out = append(out, what)
			}
		}
		return out
	}
	for network, at := range map[string]string{"unix": "@", "tcp": "127.0.0.1:0"} {
		l, err := net.Listen(network, at)
		if err != nil {
			t.Fatal(err)
		}
		if got := news(); len(got) != 1 || !strings.HasPrefix(got[0], network) {
			t.Fatalf("a listener on %s is not found: %q", network, got)
		}
		l.Close()
	}
	dir := filepath.Join(t.TempDir(), "store")
	s := open(t, func(c *store.Config) { c.Dir = dir })
	commit(t, s, put("n", "a", "1"))
	for _, what := range news() {
		t.Errorf("the store opened a socket: %s", what)
	}
	err := filepath.Walk(dir, func(name string, st os.FileInfo, err error) error {
		if err == nil && st.Mode()&os.ModeSocket != 0 {
			t.Errorf("there is a socket %s", name)
		}
		if err == nil && st.Mode().Perm()&0o077 != 0 && st.IsDir() {
			t.Errorf("others may enter %s: %v", name, st.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
