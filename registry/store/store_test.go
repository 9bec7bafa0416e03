package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/store"
)

func open(t testing.TB, edit ...func(*store.Config)) *store.Store {
	t.Helper()
	cfg := store.Config{Dir: filepath.Join(t.TempDir(), "store")}
	for _, e := range edit {
		e(&cfg)
	}
	s, err := store.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func put(node, id, value string) registry.Change {
	return registry.Change{Puts: []registry.Record{{Key: registry.InstanceRecordKey(node, id), Value: []byte(value)}}}
}

func commit(t testing.TB, s *store.Store, c registry.Change) uint64 {
	t.Helper()
	rev, err := s.Commit(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

// follow applies what the store tells to a map, until the revision is seen.
func follow(t testing.TB, s *store.Store, from, until uint64) (map[string]string, []registry.Batch) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	m, batches := map[string]string{}, []registry.Batch(nil)
	enough := errors.New("enough")
	err := s.Follow(ctx, from, func(b registry.Batch) error {
		if b.Whole {
			clear(m)
		}
		batches = append(batches, b)
		for _, r := range b.Records {
			if r.Deleted() {
				delete(m, r.Key.Node+"/"+r.Key.ID)
			} else {
				m[r.Key.Node+"/"+r.Key.ID] = string(r.Value)
			}
		}
		if b.Revision >= until {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatalf("follow from %d until %d: %v", from, until, err)
	}
	return m, batches
}

func TestCommitAndFollow(t *testing.T) {
	s := open(t)
	r1 := commit(t, s, put("N1", "a/b c", `{"x":1}`))
	r2 := commit(t, s, put("n1", "b", `{}`))
	c := put("n1", "b", `{"y":2}`)
	c.Delete(registry.InstanceRecordKey("n1", "a/b c"))
	c.Puts = append(c.Puts, registry.Record{Key: registry.CheckKey("n1", "c"), Value: []byte("")})
	r3 := commit(t, s, c)
	if r1 == 0 || r2 <= r1 || r3 <= r2 {
		t.Fatalf("revisions %d %d %d", r1, r2, r3)
	}
	want := map[string]string{"n1/b": `{"y":2}`, "n1/c": ""}
	got, batches := follow(t, s, 0, r3)
	if diff := cmp.Diff(want, got); diff != "" || len(batches) != 1 || !batches[0].Whole {
		t.Fatal(diff, batches)
	}
	got, batches = follow(t, s, r1, r3)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	if len(batches) != 2 || len(batches[1].Records) != 3 || batches[0].Revision != r2 || batches[1].Revision != r3 {
		t.Fatalf("not one batch a revision: %+v", batches)
	}
	for _, r := range batches[1].Records {
		if r.Modified != r3 || !r.Deleted() && r.Created == 0 {
			t.Errorf("revisions of %+v", r)
		}
	}
}

func TestGuards(t *testing.T) {
	s := open(t)
	k := registry.InstanceRecordKey("n", "a")
	guarded := func(modified uint64, value string) registry.Change {
		c := put("n", "a", value)
		c.Guards = []registry.Guard{{Key: k, Modified: modified}}
		return c
	}
	ctx := context.Background()
	if _, err := s.Commit(ctx, guarded(7, "x")); !errors.Is(err, registry.ErrConflict) {
		t.Fatalf("guard on what is not there: %v", err)
	}
	r1 := commit(t, s, guarded(0, "1"))
	if _, err := s.Commit(ctx, guarded(0, "x")); !errors.Is(err, registry.ErrConflict) {
		t.Fatalf("guard that it is not there: %v", err)
	}
	r2 := commit(t, s, guarded(r1, "2"))
	if _, err := s.Commit(ctx, guarded(r1, "x")); !errors.Is(err, registry.ErrConflict) {
		t.Fatalf("old guard: %v", err)
	}
	got, _ := follow(t, s, 0, r2)
	if diff := cmp.Diff(map[string]string{"n/a": "2"}, got); diff != "" {
		t.Fatal(diff)
	}
}

func TestCommitRefuses(t *testing.T) {
	s := open(t)
	twice := put("n", "a", "1")
	twice.Delete(registry.InstanceRecordKey("N", "a"))
	large := put("n", "a", strings.Repeat("x", 5<<20))
	var many registry.Change
	for i := range 5000 {
		many.Puts = append(many.Puts, put("n", fmt.Sprint(i), "x").Puts...)
	}
	novalue := registry.Change{Puts: []registry.Record{{Key: registry.NodeKey("n")}}}
	for name, c := range map[string]registry.Change{"twice": twice, "large": large, "many": many, "no value": novalue} {
		if rev, err := s.Commit(context.Background(), c); err == nil {
			t.Errorf("%s was written at %d", name, rev)
		}
	}
	gone := registry.Change{Deletes: []registry.Key{registry.NodeKey("nobody")}}
	if rev := commit(t, s, gone); rev != 0 {
		t.Errorf("deleting nothing has revision %d, which no view will show", rev)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Commit(ctx, put("n", "a", "1")); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}

func TestReopenKeepsEverything(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s, err := store.Open(context.Background(), store.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	id := s.ID()
	rev := commit(t, s, put("n", "a", "1"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal("second close:", err)
	}
	if _, err := s.Commit(context.Background(), put("n", "b", "1")); !errors.Is(err, store.ErrClosed) {
		t.Fatalf("commit after close: %v", err)
	}
	s = open(t, func(c *store.Config) { c.Dir = dir })
	if s.ID() != id || id == 0 {
		t.Fatalf("identity %x became %x", id, s.ID())
	}
	got, batches := follow(t, s, 0, rev)
	if got["n/a"] != "1" || batches[0].Revision < rev {
		t.Fatal(got, batches)
	}
}

func TestDirectoryIsRefused(t *testing.T) {
	ctx := context.Background()
	t.Run("held", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "store")
		open(t, func(c *store.Config) { c.Dir = dir })
		_, err := store.Open(ctx, store.Config{Dir: dir})
		if !errors.Is(err, store.ErrHeld) || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) {
			t.Fatalf("got %v", err)
		}
	})
	for name, c := range map[string]struct {
		format string
		want   error
	}{"newer": {`{"format":99}`, store.ErrNewer}, "garbage": {"\x00\x01", nil}, "empty": {"", nil}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			os.Chmod(dir, 0o700)
			os.WriteFile(filepath.Join(dir, "format"), []byte(c.format), 0o600)
			_, err := store.Open(ctx, store.Config{Dir: dir})
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
	t.Run("open to others", func(t *testing.T) {
		dir := t.TempDir()
		os.Chmod(dir, 0o755)
		if _, err := store.Open(ctx, store.Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "0700") {
			t.Fatalf("got %v", err)
		}
	})
}

func TestHistory(t *testing.T) {
	now := time.Now()
	s := open(t)
	var revs []uint64
	for i := range 5 {
		c := put("n1", "web", fmt.Sprint(i))
		c.Events = []registry.Event{
			{Time: now.Add(time.Duration(i) * time.Second), Subject: "check", Action: "status", Node: "n1", ID: "c", To: fmt.Sprint(i)},
			{Time: now.Add(time.Duration(i) * time.Second), Subject: "instance", Action: "update", Node: "n1", Service: "Web", ID: "web", To: fmt.Sprint(i)},
		}
		revs = append(revs, commit(t, s, c))
	}
	get := func(q registry.HistoryQuery) (out []string) {
		es, err := s.History(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			out = append(out, e.Subject+e.To)
			var i int
			fmt.Sscan(e.To, &i)
			if e.Revision != revs[i] {
				t.Errorf("%s has revision %d, its write %d", e.To, e.Revision, revs[i])
			}
		}
		return out
	}
	all := get(registry.HistoryQuery{})
	want := []string{"instance4", "check4", "instance3", "check3", "instance2", "check2", "instance1", "check1", "instance0", "check0"}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"instance4", "instance3"}, get(registry.HistoryQuery{Name: "WEB", Limit: 2})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"check4", "check3"}, get(registry.HistoryQuery{Name: "c", Since: now.Add(3 * time.Second)})); diff != "" {
		t.Error(diff)
	}
}

func TestKeepAlive(t *testing.T) {
	t.Parallel() // it mostly waits
	s := open(t)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.KeepAlive(ctx, "N1", time.Second); err != nil {
			t.Error(err)
		}
	})
	seen := func(want bool) {
		t.Helper()
		deadline := time.Now().Add(10 * time.Second)
		for {
			m, _ := follow(t, s, 0, 1)
			if _, ok := m["n1/"]; ok == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("alive key there: %v", !want)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	seen(true)
	cancel()
	wg.Wait()
	rev, err := s.Pause(context.Background(), "n1", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	m, _ := follow(t, s, 0, rev)
	if !strings.Contains(m["n1/"], "stopped") {
		t.Fatalf("no marker of the stop: %v", m)
	}
	seen(false)
}
