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

// TestDamagedDataIsToldOf starts on files that a broken disk left.
func TestDamagedDataIsToldOf(t *testing.T) {
	for _, file := range []string{"etcd/member/snap/db", "etcd/member/wal/0000000000000000-0000000000000000.wal"} {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			s, err := store.Open(context.Background(), store.Config{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			commit(t, s, put("n", "a", "1"))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, file), bytes.Repeat([]byte("garbage "), 10_000), 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second start must not make an empty store of it
				var out bytes.Buffer
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), fullDir+"="+dir)
				cmd.Stdout, cmd.Stderr = &out, &out
				err = cmd.Run()
				var exit *exec.ExitError
				if !errors.As(err, &exit) || strings.Contains(out.String(), "goroutine ") {
					t.Fatalf("%v:\n%s", err, out.String())
				}
				lines := strings.Split(strings.TrimSpace(out.String()), "\n")
				if last := lines[len(lines)-1]; !strings.Contains(last, dir) {
					t.Errorf("the last line does not say where: %s", last)
				}
			}
		})
	}
}
