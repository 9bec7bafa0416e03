package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/resolverd/resolverd/registry/store"
	"golang.org/x/sys/unix"
)

const beginDir = "RESOLVERD_TEST_STORE_BEGIN"

// firstStart opens a store at dir in a child whose files end at 32 MiB: enough for the
// database, not for the log.
func firstStart(t *testing.T, dir string) error {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), beginDir+"="+dir)
	return cmd.Run()
}

// beginWithoutRoom is the child.
func beginWithoutRoom(dir string) {
	signal.Ignore(syscall.SIGXFSZ)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 32 << 20, Max: 32 << 20}); err != nil {
		fmt.Println("error", err)
		os.Exit(0)
	}
	if _, err := store.Open(context.Background(), store.Config{Dir: dir}); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// TestBeginningThatFailed opens what is left where etcd ended between making its database
// and its log, which a full disk does to a first start.
func TestBeginningThatFailed(t *testing.T) {
	for _, tc := range []struct {
		name   string
		opened bool // the store had been opened before
	}{
		{"first start", false},
		{"log gone later", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			mark := filepath.Join(dir, "new")
			cfg := store.Config{Dir: dir}
			if tc.opened {
				s, err := store.Open(context.Background(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := os.Stat(mark); !errors.Is(err, os.ErrNotExist) {
					t.Fatalf("an open store still has the file that stands for a new one: %v", err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if err := os.RemoveAll(filepath.Join(dir, "etcd", "member", "wal")); err != nil {
					t.Fatal(err)
				}
			} else {
				snap := filepath.Join(dir, "etcd", "member", "snap")
				if err := os.MkdirAll(snap, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(dir, 0o700); err != nil {
					t.Fatal(err)
				}
				for _, name := range []string{mark, filepath.Join(snap, "db")} {
					if err := os.WriteFile(name, nil, 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			s, err := store.Open(context.Background(), cfg)
			if err == nil {
				defer s.Close()
			}
			if tc.opened != errors.Is(err, store.ErrDamaged) || tc.opened != (err != nil) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// TestFirstStartOnFullDisk has a child that cannot make the log, and opens what it left.
func TestFirstStartOnFullDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	if err := firstStart(t, dir); err == nil {
		t.Fatal("a child without room for the log opened the store")
	}
	if _, err := os.Stat(filepath.Join(dir, "etcd", "member", "snap", "db")); err != nil {
		t.Fatalf("the child did not come as far as the database: %v", err)
	}
	s, err := store.Open(context.Background(), store.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
