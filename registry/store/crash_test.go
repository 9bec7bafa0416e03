package store_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/store"
	"go.uber.org/goleak"
)

const childDir = "RESOLVERD_TEST_STORE_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		writeUntilKilled(dir)
	}
	if dir := os.Getenv(fullDir); dir != "" {
		writeOnFullDisk(dir)
	}
	if dir := os.Getenv(beginDir); dir != "" {
		beginWithoutRoom(dir)
	}
	goleak.VerifyTestMain(m)
}

// writeUntilKilled registers instances from eight goroutines and says each that was
// acknowledged.
func writeUntilKilled(dir string) {
	s, err := store.Open(context.Background(), store.Config{Dir: dir})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var mu sync.Mutex
	for w := range 8 {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i)
				c := put("n", id, strconv.Itoa(i))
				if i > 0 { // and take out every second one
					if i%2 == 0 {
						c.Delete(registry.InstanceRecordKey("n", fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i-1)))
					}
				}
				c.Events = []registry.Event{{Subject: "instance", Action: "register", ID: id}}
				rev, err := s.Commit(context.Background(), c)
				mu.Lock()
				if err != nil {
					fmt.Println("error", err)
				} else {
					fmt.Println("ack", id, rev)
				}
				mu.Unlock()
			}
		}()
	}
	select {}
}

// TestKillLosesNothingAcknowledged kills a writing process again and again, and looks
// for all that it was told is written.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	acked := map[string]uint64{}
	last := uint64(0)
	for round := range 4 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := 50 + rand.IntN(1500)
		in := bufio.NewScanner(out)
		n := 0
		for in.Scan() {
			f := strings.Fields(in.Text())
			if len(f) != 3 || f[0] != "ack" {
				t.Errorf("child said %q", in.Text())
				break
			}
			rev, err := strconv.ParseUint(f[2], 10, 64)
			if err != nil || rev <= last && n == 0 {
				t.Errorf("revision %q after %d", f[2], last)
			}
			acked[f[1]] = rev
			if n++; n == kill {
				cmd.Process.Kill()
			}
		}
		cmd.Process.Kill()
		cmd.Wait()
		if n < kill {
			t.Fatalf("round %d: only %d acknowledged", round, n)
		}
		s, err := store.Open(context.Background(), store.Config{Dir: dir})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		got, batches := follow(t, s, 0, 1)
		last = batches[0].Revision
		lost := 0
		for id, rev := range acked {
			var pid, w, i int
			fmt.Sscanf(id, "%d-%d-%d", &pid, &w, &i)
			_, there := got["n/"+id]
			_, nextAcked := acked[fmt.Sprintf("%d-%d-%d", pid, w, i+1)]
			_, nextThere := got["n/"+fmt.Sprintf("%d-%d-%d", pid, w, i+1)]
			switch {
			case rev > last:
				t.Errorf("%s was acknowledged at %d, the store is at %d", id, rev, last)
			case i%2 == 0 && !there:
				lost++
			case i%2 == 1 && !there && !nextThere:
				lost++ // only with the next one is it taken out
			case i%2 == 1 && there && nextAcked:
				t.Errorf("%s is back though its deletion was acknowledged", id)
			}
		}
		if lost > 0 {
			t.Fatalf("round %d: %d of %d acknowledged are lost", round, lost, len(acked))
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		es, err := s.History(ctx, registry.HistoryQuery{Limit: registry.MaxHistoryLimit})
		cancel()
		if err != nil || len(es) < min(len(acked), registry.MaxHistoryLimit) {
			t.Errorf("%d events for %d writes, %v", len(es), len(acked), err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d acknowledged in 4 lives, none lost", len(acked))
}
