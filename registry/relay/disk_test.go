package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/renameio/v2"
	"github.com/resolverd/resolverd/registry"
)

// keep applies the batch to the view and gives it to the disk, as a follower does.
func keep(t testing.TB, d *Disk, v *registry.View, b registry.Batch) {
	t.Helper()
	previous := v.Load().Revision
	if err := v.Apply(b); err != nil {
		t.Fatal(err)
	}
	b.Serial = v.Load().Serial
	d.Keep(7, previous, b)
}

// written makes a file with everything at revision 3 and three changes after it, and
// returns it with what the view held after each.
func written(t testing.TB, dir string) (file []byte, at map[uint64]map[string]string) {
	t.Helper()
	d, v := NewDisk(DiskConfig{Dir: dir, Log: quiet}), registry.NewView()
	at = map[uint64]map[string]string{}
	note := func() { at[v.Load().Revision] = shown(v) }
	keep(t, d, v, registry.Batch{Revision: 3, Whole: true, Records: []registry.Record{nodeRecord("n1", 1), instanceRecord("n1", "a", "web", 2), instanceRecord("n1", "b", "web", 3)}})
	note()
	if err := d.write(v); err != nil {
		t.Fatal(err)
	}
	keep(t, d, v, registry.Batch{Revision: 5, Records: []registry.Record{instanceRecord("n1", "c", "db", 5)}})
	note()
	keep(t, d, v, registry.Batch{Revision: 6, Records: []registry.Record{{Key: registry.InstanceRecordKey("n1", "a"), Modified: 6}}})
	note()
	if err := d.write(v); err != nil {
		t.Fatal(err)
	}
	keep(t, d, v, registry.Batch{Revision: 9, Records: []registry.Record{instanceRecord("n1", "a", "new", 9), nodeRecord("n2", 9)}})
	note()
	if err := d.write(v); err != nil {
		t.Fatal(err)
	}
	d.close()
	b, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	return b, at
}

func shown(v *registry.View) map[string]string {
	m := map[string]string{"serial": fmt.Sprint(v.Load().Serial)}
	for _, r := range v.Records().Records {
		m[r.Key.String()] = fmt.Sprint(r.Created, r.Modified, string(r.Value))
	}
	return m
}

func TestDiskRoundTrip(t *testing.T) {
	dir := t.TempDir()
	_, at := written(t, dir)
	v, d := registry.NewView(), NewDisk(DiskConfig{Dir: dir, Log: quiet})
	n, err := d.Load(v)
	if err != nil || n != 7 || d.Store() != 7 || v.Load().Revision != 9 || !v.Loaded() {
		t.Fatalf("%d records, %v, store %d, revision %d", n, err, d.Store(), v.Load().Revision)
	}
	if diff := cmp.Diff(at[9], shown(v)); diff != "" {
		t.Fatal(diff)
	}
	// It goes on behind what was read.
	keep(t, d, v, registry.Batch{Revision: 12, Records: []registry.Record{nodeRecord("n3", 12)}})
	if err := d.write(v); err != nil {
		t.Fatal(err)
	}
	d.close()
	v2 := registry.NewView()
	if _, err := NewDisk(DiskConfig{Dir: dir, Log: quiet}).Load(v2); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(shown(v), shown(v2)); diff != "" {
		t.Fatal(diff)
	}
	if st, err := os.Stat(d.name); err != nil || st.Mode().Perm() != 0o600 {
		t.Error(st.Mode(), err)
	}
}

// damaged loads b as the file and checks that the view then is one that was there, or
// that there is none and an error.
func damaged(t *testing.T, dir, what string, b []byte, at map[uint64]map[string]string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, fileName), b, 0o600); err != nil {
		t.Fatal(err)
	}
	v, d := registry.NewView(), NewDisk(DiskConfig{Dir: dir, Log: quiet})
	_, err := d.Load(v)
	if err != nil {
		if v.Loaded() || v.Load().Revision != 0 {
			t.Fatalf("%s: %v, and yet revision %d", what, err, v.Load().Revision)
		}
		return
	}
	want, ok := at[v.Load().Revision]
	if !ok {
		t.Fatalf("%s: revision %d never was", what, v.Load().Revision)
	}
	if diff := cmp.Diff(want, shown(v)); diff != "" {
		t.Fatalf("%s: %s", what, diff)
	}
	// What follows is written behind the sound part, and found again.
	keep(t, d, v, registry.Batch{Revision: 20, Records: []registry.Record{nodeRecord("n9", 20)}})
	if err := d.write(v); err != nil {
		t.Fatal(what, err)
	}
	d.close()
	v2 := registry.NewView()
	if _, err := NewDisk(DiskConfig{Dir: dir, Log: quiet}).Load(v2); err != nil {
		t.Fatal(what, err)
	}
	if diff := cmp.Diff(shown(v), shown(v2)); diff != "" {
		t.Fatalf("%s: written behind it: %s", what, diff)
	}
}

func TestDiskTruncatedAnywhere(t *testing.T) {
	dir := t.TempDir()
	b, at := written(t, dir)
	for n := range b {
		damaged(t, dir, fmt.Sprintf("cut at %d of %d", n, len(b)), b[:n], at)
	}
}

func TestDiskBitsFlipped(t *testing.T) {
	dir := t.TempDir()
	b, at := written(t, dir)
	for n := range b {
		bad := bytes.Clone(b)
		bad[n] ^= 1 << (n % 8)
		damaged(t, dir, fmt.Sprintf("octet %d of %d flipped", n, len(b)), bad, at)
	}
	for _, c := range []struct {
		name string
		b    []byte
	}{
		{"empty", nil},
		{"zeros", make([]byte, 4096)},
		{"text", []byte(strings.Repeat("no such thing ", 100))},
		{"twice", append(bytes.Clone(b), b...)},
	} {
		damaged(t, dir, c.name, c.b, at)
	}
}

func TestDiskOfANewerVersion(t *testing.T) {
	dir := t.TempDir()
	b, _ := written(t, dir)
	b[0] = Version + 1
	fix(b[:headLen+int(b[7])])
	if err := os.WriteFile(filepath.Join(dir, fileName), b, 0o600); err != nil {
		t.Fatal(err)
	}
	v := registry.NewView()
	if _, err := NewDisk(DiskConfig{Dir: dir, Log: quiet}).Load(v); !errors.Is(err, ErrNewer) || v.Loaded() {
		t.Errorf("%v", err)
	}
	if _, err := NewDisk(DiskConfig{Dir: t.TempDir(), Log: quiet}).Load(v); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// lines is a log that may be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestDiskThatTakesNothing is told of once, stops nothing, and is used again when it can
// be.
func TestDiskThatTakesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	synctest.Test(t, func(t *testing.T) {
		var log lines
		d := NewDisk(DiskConfig{Dir: dir, Log: slog.New(slog.NewTextHandler(&log, nil)), Retry: time.Minute})
		v := registry.NewView()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { d.Run(ctx, v) })
		defer func() { cancel(); wg.Wait() }()
		keep(t, d, v, registry.Batch{Revision: 3, Whole: true, Records: []registry.Record{nodeRecord("n1", 3)}})
		for i := range 5 {
			time.Sleep(2 * time.Minute)
			keep(t, d, v, registry.Batch{Revision: uint64(10 + i), Records: []registry.Record{nodeRecord(fmt.Sprint("m", i), uint64(10+i))}})
		}
		synctest.Wait()
		if n := strings.Count(log.String(), "cannot be kept on disk"); n != 1 {
			t.Errorf("told %d times:\n%s", n, log.String())
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		v2 := registry.NewView()
		if _, err := NewDisk(DiskConfig{Dir: dir, Log: quiet}).Load(v2); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(shown(v), shown(v2)); diff != "" {
			t.Error(diff)
		}
		if !strings.Contains(log.String(), "kept on disk again") {
			t.Error(log.String())
		}
	})
}

// TestDiskIsRewrittenBeforeItGrows appends many changes of the same.
func TestDiskIsRewrittenBeforeItGrows(t *testing.T) {
	dir := t.TempDir()
	d, v := NewDisk(DiskConfig{Dir: dir, Log: quiet, Append: 10_000}), registry.NewView()
	keep(t, d, v, registry.Batch{Revision: 1, Whole: true, Records: []registry.Record{nodeRecord("n1", 1)}})
	for i := range 2000 {
		rev := uint64(i + 2)
		keep(t, d, v, registry.Batch{Revision: rev, Records: []registry.Record{instanceRecord("n1", fmt.Sprint(i%5), "web", rev)}})
		if i%10 == 0 {
			if err := d.write(v); err != nil {
				t.Fatal(err)
			}
			if st, err := os.Stat(d.name); err != nil || st.Size() > 20_000 {
				t.Fatalf("%d octets, %v", st.Size(), err)
			}
		}
	}
	if err := d.write(v); err != nil {
		t.Fatal(err)
	}
	d.close()
	v2 := registry.NewView()
	if _, err := NewDisk(DiskConfig{Dir: dir, Log: quiet}).Load(v2); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(shown(v), shown(v2)); diff != "" {
		t.Error(diff)
	}
}

// TestNamesAreThereBeforeTheAgent restarts an answerer whose agent is away, then brings
// the agent back: it resumes, and no epoch moves.
func TestNamesAreThereBeforeTheAgent(t *testing.T) {
	dir := t.TempDir()
	s := newSource(t)
	s.write(t, 100)
	life := func(d *Disk, v *registry.View) (*Follower, func()) {
		f := NewFollower(FollowerConfig{Path: s.path, View: v, Disk: d, Log: quiet})
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { f.Run(ctx) })
		wg.Go(func() { d.Run(ctx, v) })
		return f, func() { cancel(); wg.Wait() }
	}
	d, v := NewDisk(DiskConfig{Dir: dir, Log: quiet}), registry.NewView()
	_, stop := life(d, v)
	await(t, v, s.rev)
	s.write(t, 20)
	await(t, v, s.rev)
	serial := v.Load().Serial
	stop()
	s.stop()

	d, v = NewDisk(DiskConfig{Dir: dir, Log: quiet}), registry.NewView()
	if _, err := d.Load(v); err != nil {
		t.Fatal(err)
	}
	if _, heard := v.Age(time.Now()); heard || v.Load().Revision != s.rev || v.Load().Serial != serial {
		t.Fatalf("revision %d, serial %d, want %d and %d", v.Load().Revision, v.Load().Serial, s.rev, serial)
	}
	same(t, s.view, v)
	epoch := v.Load().Service("web").Epoch
	was := epoch.Load()
	s.serve(t)
	f, stop := life(d, v)
	for !f.Stats().Connected {
		time.Sleep(time.Millisecond)
	}
	if f.Stats().Wholes != 0 || epoch.Load() != was {
		t.Errorf("%+v, epoch %d then %d", f.Stats(), was, epoch.Load())
	}
	s.write(t, 1)
	await(t, v, s.rev)
	same(t, s.view, v)
	stop()
}

// TestDiskSweeps starts where an earlier process was killed while it wrote everything.
func TestDiskSweeps(t *testing.T) {
	dir := t.TempDir()
	written(t, dir)
	f, err := renameio.NewPendingFile(filepath.Join(dir, fileName), renameio.WithTempDir(dir))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if names, _ := os.ReadDir(dir); len(names) != 2 {
		t.Fatalf("there is %v", names)
	}
	if _, err := NewDisk(DiskConfig{Dir: dir, Log: quiet}).Load(registry.NewView()); err != nil {
		t.Fatal(err)
	}
	if names, _ := os.ReadDir(dir); len(names) != 1 || names[0].Name() != fileName {
		t.Errorf("there is %v", names)
	}
}
