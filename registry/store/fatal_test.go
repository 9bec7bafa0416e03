package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/resolverd/resolverd/registry/store"
	"golang.org/x/sys/unix"
)

const fullDir = "RESOLVERD_TEST_STORE_FULL"

// writeOnFullDisk opens a store and then lets every write to a file fail.
func writeOnFullDisk(dir string) {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	s, err := store.Open(context.Background(), store.Config{Dir: dir, Log: log})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	if _, err := s.Commit(context.Background(), put("n", "before", "1")); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	signal.Ignore(syscall.SIGXFSZ)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{}); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	if _, err := s.Commit(context.Background(), put("n", "after", "1")); err == nil {
		fmt.Println("acknowledged without a disk")
	}
	os.Exit(2)
}

// TestDiskThatFailsEndsTheProcess has a child whose disk takes no write any more.
func TestDiskThatFailsEndsTheProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	var out, log bytes.Buffer
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fullDir+"="+dir)
	cmd.Stdout, cmd.Stderr = &out, &log
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != store.ExitStore || out.Len() != 0 {
		t.Fatalf("%v, said %q, log:\n%s", err, out.String(), log.String())
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if last := lines[len(lines)-1]; !strings.Contains(last, "etcd gave up") || !strings.Contains(last, "file too large") {
		t.Errorf("last line of the log: %s", last)
	}
	s := open(t, func(c *store.Config) { c.Dir = dir })
	got, _ := follow(t, s, 0, 1)
	if got["n/before"] != "1" {
		t.Errorf("after it: %v", got)
	}
}
