package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/resolverd/resolverd/registry"
)

func openHere(t testing.TB, cfg Config) *Store {
	t.Helper()
	cfg.Dir = filepath.Join(t.TempDir(), "store")
	s, err := Open(context.Background(), cfg)
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

func value(id, v string) registry.Change {
	return registry.Change{Puts: []registry.Record{{Key: registry.InstanceRecordKey("n", id), Value: []byte(v)}}}
}

func mustCommit(t testing.TB, s *Store, c registry.Change) uint64 {
	t.Helper()
	rev, err := s.Commit(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

var errEnough = errors.New("enough")

// TestFollowAcrossCompaction resumes at a revision that is gone: everything comes again,
// and what was deleted meanwhile is not in it.
func TestFollowAcrossCompaction(t *testing.T) {
	s := openHere(t, Config{})
	ctx := context.Background()
	first := mustCommit(t, s, value("gone", "1"))
	mustCommit(t, s, registry.Change{Deletes: []registry.Key{registry.InstanceRecordKey("n", "gone")}})
	last := mustCommit(t, s, value("kept", "1"))
	if err := s.compact(ctx, 0); err != nil {
		t.Fatal(err)
	}
	var got []registry.Batch
	err := s.Follow(ctx, first, func(b registry.Batch) error {
		got = append(got, b)
		if len(got) == 1 {
			mustCommit(t, s, value("later", "1"))
			return nil
		}
		return errEnough
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	if b := got[0]; !b.Whole || b.Revision != last || len(b.Records) != 1 || b.Records[0].Key.ID != "kept" {
		t.Errorf("first batch %+v", b)
	}
	if b := got[1]; b.Whole || b.Revision != last+1 || len(b.Records) != 1 || b.Records[0].Key.ID != "later" {
		t.Errorf("second batch %+v", b)
	}
}

// TestSizeStaysFlatUnderChurn writes the same few instances again and again.
func TestSizeStaysFlatUnderChurn(t *testing.T) {
	s := openHere(t, Config{HistoryMax: 100})
	churn := func() {
		var wg sync.WaitGroup
		for w := range 64 {
			wg.Go(func() {
				for i := range 60 {
					c := value(fmt.Sprint(w), strings.Repeat(fmt.Sprint(i%10), 4000))
					c.Events = []registry.Event{{Subject: "check", Action: "status", ID: fmt.Sprint(w)}}
					mustCommit(t, s, c)
				}
			})
		}
		wg.Wait()
		if err := s.tidy(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	churn()
	first, _ := s.Size()
	for range 3 {
		churn()
	}
	last, used := s.Size()
	t.Logf("file %d after the first round, %d after four, %d in use", first, last, used)
	if last > max(2*first, 2*defragMin) {
		t.Errorf("file grew from %d to %d", first, last)
	}
	es, err := s.History(context.Background(), registry.HistoryQuery{Limit: registry.MaxHistoryLimit})
	if err != nil || len(es) < 100 || len(es) > 110 {
		t.Errorf("%d events kept of at most 100 and a tenth, %v", len(es), err)
	}
}

func TestHistoryAge(t *testing.T) {
	now := time.Now()
	s := openHere(t, Config{HistoryAge: time.Hour, Now: func() time.Time { return now }})
	for i, ago := range []time.Duration{3 * time.Hour, 61 * time.Minute, 59 * time.Minute, 0} {
		c := value("a", fmt.Sprint(i))
		c.Events = []registry.Event{{Time: now.Add(-ago), To: fmt.Sprint(i)}}
		mustCommit(t, s, c)
	}
	if err := s.trimHistory(context.Background()); err != nil {
		t.Fatal(err)
	}
	es, err := s.History(context.Background(), registry.HistoryQuery{})
	if err != nil || len(es) != 2 || es[0].To != "3" || es[1].To != "2" {
		t.Errorf("%+v, %v", es, err)
	}
}

// TestQuota fills the database with old versions until it refuses, and sees it recover.
func TestQuota(t *testing.T) {
	s := openHere(t, Config{Quota: 24 << 20})
	full := false
	for i := 0; i < 200 && !full; i++ {
		_, err := s.Commit(context.Background(), value("a", strings.Repeat(fmt.Sprint(i%10), 500_000)))
		full = errors.Is(err, ErrFull)
		if err != nil && !full {
			t.Fatal(err)
		}
	}
	if !full {
		t.Fatal("never full")
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		_, err := s.Commit(context.Background(), value("b", "small"))
		if err == nil {
			return
		}
		if !errors.Is(err, ErrFull) || time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
