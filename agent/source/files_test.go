package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/catalog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a store in memory that shows its writes in the view at once.
type memory struct {
	mu       sync.Mutex
	view     *registry.View
	rev      uint64
	modified map[registry.Key]uint64
	fail     error
	commits  int
}

func (m *memory) Commit(_ context.Context, c registry.Change) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return 0, m.fail
	}
	for _, g := range c.Guards {
		if m.modified[g.Key] != g.Modified {
			return 0, registry.ErrConflict
		}
	}
	m.rev++
	m.commits++
	b := registry.Batch{Revision: m.rev}
	for _, r := range c.Puts {
		r.Created, r.Modified = m.rev, m.rev
		m.modified[r.Key] = m.rev
		b.Records = append(b.Records, r)
	}
	for _, k := range c.Deletes {
		delete(m.modified, k)
		b.Records = append(b.Records, registry.Record{Key: k, Modified: m.rev})
	}
	return m.rev, m.view.Apply(b)
}

func (m *memory) History(context.Context, registry.HistoryQuery) ([]registry.Event, error) {
	return nil, nil
}

// bench is a directory, a catalogue and a Files between them.
type bench struct {
	t     *testing.T
	dir   string
	store *memory
	cat   *catalog.Catalog
	files *Files

	mu     sync.Mutex
	log    strings.Builder
	passes chan struct{}
	stop   func()
}

func (b *bench) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.Write(p)
}

func (b *bench) logged(s string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.log.String(), s)
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, dir: filepath.Join(t.TempDir(), "services.d"), passes: make(chan struct{}, 1), stop: func() {}}
	view := registry.NewView()
	b.store = &memory{view: view, modified: map[registry.Key]uint64{}}
	b.cat = catalog.New(view, b.store, slog.New(slog.DiscardHandler), time.Now)
	if err := os.Mkdir(b.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := b.cat.Register(t.Context(), catalog.Actor{Name: "agent"}, catalog.Registration{Node: &registry.Node{Name: "n1", Address: host(t, "10.0.0.1")}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.stop() })
	return b
}

// start starts a Files; again after stop it is a restarted agent.
func (b *bench) start() {
	b.files = NewFiles(Config{Dir: b.dir, Node: "n1", Catalog: b.cat, View: b.cat.View(), Log: slog.New(slog.NewTextHandler(b, nil))})
	b.files.passed = func() {
		select {
		case b.passes <- struct{}{}:
		default:
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.files.Run(ctx) }()
	b.stop = func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
		b.stop = func() {}
	}
}

func (b *bench) write(name, content string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(content), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) remove(name string) {
	b.t.Helper()
	if err := os.Remove(filepath.Join(b.dir, name)); err != nil {
		b.t.Fatal(err)
	}
}

// until waits for a pass after which the condition holds.
func (b *bench) until(what string, ok func() bool) {
	b.t.Helper()
	deadline := time.After(15 * time.Second)
	for !ok() {
		select {
		case <-b.passes:
		case <-deadline:
			b.mu.Lock()
			defer b.mu.Unlock()
			b.t.Fatalf("not %s after 15 s; there are %v; the log:\n%s", what, b.ids(), b.log.String())
		}
	}
}

// ids are the instances of the node, with their ports.
func (b *bench) ids() []string {
	out := []string{}
	if n := b.cat.View().Load().Node("n1"); n != nil {
		for _, i := range n.Instances {
			out = append(out, fmt.Sprintf("%s:%d", i.ID, i.Port))
		}
	}
	slices.Sort(out)
	return out
}

func (b *bench) shows(ids ...string) {
	b.t.Helper()
	b.until(fmt.Sprint(ids), func() bool { return slices.Equal(b.ids(), ids) })
}

var api = catalog.Actor{Owner: registry.OwnerAPI, Name: "api", Source: "127.0.0.1"}

func TestFilesComeAndGo(t *testing.T) {
	b := newBench(t)
	b.write("a.yaml", "services:\n- {name: web, id: web-1, port: 1, check: {tcp: '127.0.0.1:1'}}\n- {name: web, id: web-2, port: 2}\n")
	b.start()
	b.shows("web-1:1", "web-2:2")
	i := b.cat.View().Load().Instance("n1", "web-1")
	if i.Owner != registry.OwnerFile || i.Origin != filepath.Join(b.dir, "a.yaml") || len(i.Checks) != 1 || i.Checks[0].ID != "service:web-1" {
		t.Errorf("%+v with %d checks", i.Instance, len(i.Checks))
	}
	b.write("b.json", `{"service": {"name": "db", "port": 5}}`)
	b.shows("db:5", "web-1:1", "web-2:2")

	// As an editor writes: a new file that is moved over the old one, and a swap file.
	b.write(".a.yaml.swp", "rubbish: [")
	b.write("a.yaml.new", "services:\n- {name: web, id: web-1, port: 11}\n")
	if err := os.Rename(filepath.Join(b.dir, "a.yaml.new"), filepath.Join(b.dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	b.shows("db:5", "web-1:11")
	if i := b.cat.View().Load().Instance("n1", "web-1"); len(i.Checks) != 0 {
		t.Errorf("%d checks are left of the old definition", len(i.Checks))
	}
	b.remove("b.json")
	b.shows("web-1:11")
	if err := os.RemoveAll(b.dir); err != nil {
		t.Fatal(err)
	}
	b.shows()
	if b.logged("directory is gone") != 1 {
		t.Error("the log does not say that the directory is gone")
	}
	if err := os.Mkdir(b.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b.write("c.yml", "service: {name: late, port: 9}\n")
	b.shows("late:9")
	// The new directory is watched, and not only looked at now and then.
	start := time.Now()
	b.write("c.yml", "service: {name: late, port: 10}\n")
	b.shows("late:10")
	if d := time.Since(start); d > rescan/2 {
		t.Errorf("a change in the new directory took %v", d)
	}
}

func TestUnchangedFilesWriteNothing(t *testing.T) {
	b := newBench(t)
	b.write("a.yaml", "services:\n- {name: web, port: 1, check: {tcp: '127.0.0.1:1'}}\ncheck: {id: disk, tcp: '127.0.0.1:2'}\n")
	b.start()
	b.shows("web:1")
	b.stop()
	n := b.store.commits
	b.start()
	b.write("z.yaml", "service: {name: z, port: 2}\n")
	b.shows("web:1", "z:2")
	if got := b.store.commits - n; got != 1 {
		t.Errorf("%d writes after a restart, want 1 for the new file", got)
	}
}

func TestBrokenFileKeepsWhatItSaid(t *testing.T) {
	b := newBench(t)
	b.write("a.yaml", "service: {name: web, port: 1}\n")
	b.start()
	b.shows("web:1")
	broken := func(n int) func() bool { return func() bool { return b.logged("file refused") == n } }
	b.write("a.yaml", "service: {name: web, port: 70000}\n")
	b.until("refused", broken(1))
	b.shows("web:1")
	if b.logged("a.yaml:1: port cannot be") != 1 {
		t.Error("the log does not say where the fault is")
	}
	if n := testutil.ToFloat64(b.files.meter.broken); n != 1 {
		t.Errorf("%v broken files counted", n)
	}
	// Truncated, as by an editor that is about to write.
	b.write("a.yaml", "")
	b.until("refused", broken(2))
	b.shows("web:1")
	b.stop()
	// Still broken when the agent starts: what is in the registry stays.
	b.start()
	b.write("other.yaml", "service: {name: other, port: 3}\n")
	b.shows("other:3", "web:1")
	b.write("a.yaml", "service: {name: web, port: 2}\n")
	b.shows("other:3", "web:2")
}

func TestRefusedByTheCatalogueStaysAsItWas(t *testing.T) {
	b := newBench(t)
	b.write("a.yaml", "service: {name: web, port: 1}\n")
	b.start()
	b.shows("web:1")
	b.write("a.yaml", "service: {name: web, port: 2, check: {http: 'nowhere'}}\n")
	b.until("refused", func() bool { return b.logged("definition refused") == 1 })
	b.write("b.yaml", "service: {name: b, port: 1}\n")
	b.shows("b:1", "web:1")
	if b.logged("definition refused") != 1 || b.logged("a.yaml:1: service") != 1 {
		t.Errorf("the log:\n%s", b.log.String())
	}
}

func TestGoneWhileTheAgentWasDown(t *testing.T) {
	b := newBench(t)
	b.write("a.yaml", "service: {name: web, port: 1}\ncheck: {id: disk, tcp: '127.0.0.1:1'}\n")
	b.write("b.yaml", "service: {name: stays, port: 2}\n")
	b.start()
	b.shows("stays:2", "web:1")
	b.until("a check of the node", func() bool { return len(b.cat.View().Load().Node("n1").Checks) == 1 })
	if _, err := b.cat.Register(t.Context(), api, catalog.Registration{Instance: &registry.Instance{Node: "n1", ID: "api", Service: "api"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.cat.RegisterCheck(t.Context(), api, &registry.Check{Node: "n1", ID: "api-check"}); err != nil {
		t.Fatal(err)
	}
	b.stop()
	b.remove("a.yaml")
	b.start()
	b.shows("api:0", "stays:2")
	b.until("rid of the check", func() bool {
		c := b.cat.View().Load().Node("n1").Checks
		return len(c) == 1 && c[0].ID == "api-check"
	})
}

func TestTombstone(t *testing.T) {
	b := newBench(t)
	b.write("a.yaml", "service: {name: web, port: 1}\n")
	b.start()
	b.shows("web:1")
	if _, err := b.cat.Deregister(t.Context(), api, "n1", "web"); err != nil {
		t.Fatal(err)
	}
	b.write("b.yaml", "service: {name: b, port: 1}\n")
	b.shows("b:1")
	b.write("b.yaml", "service: {name: b, port: 2}\n")
	b.shows("b:2")
	if n := b.logged("was deregistered elsewhere"); n != 1 {
		t.Errorf("%d lines in the log about the tombstone, want 1", n)
	}
	b.stop()
	b.start() // a restart is no change
	b.write("b.yaml", "service: {name: b, port: 3}\n")
	b.shows("b:3")
	b.write("a.yaml", "service: {name: web, port: 2}\n")
	b.shows("b:3", "web:2")

	// Deregistered again, and the file goes: nothing is left to remember.
	if _, err := b.cat.Deregister(t.Context(), api, "n1", "web"); err != nil {
		t.Fatal(err)
	}
	b.remove("a.yaml")
	b.until("without tombstone", func() bool { return b.cat.View().Load().Tombstone("n1", "web") == nil })
	b.write("a.yaml", "service: {name: web, port: 2}\n")
	b.shows("b:3", "web:2")
}

func TestOtherOwnersInstanceIsLeftAlone(t *testing.T) {
	b := newBench(t)
	if _, err := b.cat.Register(t.Context(), api, catalog.Registration{Instance: &registry.Instance{Node: "n1", ID: "web", Service: "web", Port: 7}}); err != nil {
		t.Fatal(err)
	}
	b.write("a.yaml", "service: {name: web, port: 1}\n")
	b.start()
	b.until("held", func() bool { return b.logged("does not replace it") == 1 })
	b.shows("web:7")
	b.remove("a.yaml")
	b.write("b.yaml", "service: {name: b, port: 1}\n")
	b.shows("b:1", "web:7")
}

func TestSameIDInTwoFiles(t *testing.T) {
	b := newBench(t)
	b.write("a.yaml", "service: {name: web, port: 1}\n")
	b.write("b.yaml", "service: {name: web, port: 2}\n")
	b.start()
	b.shows("web:1")
	if b.logged("b.yaml:1: service id") != 1 {
		t.Errorf("the log:\n%s", b.log.String())
	}
	faults, err := CheckDir(b.dir)
	if err != nil || len(faults) != 1 {
		t.Errorf("CheckDir: %v %v", faults, err)
	}
	b.remove("a.yaml")
	b.shows("web:2")
}

func TestStoreAway(t *testing.T) {
	b := newBench(t)
	b.store.fail = errors.New("disk full")
	b.write("a.yaml", "services: [{name: a, port: 1}, {name: b, port: 2}]\n")
	b.start()
	b.until("tried", func() bool { return b.logged("trying again") == 1 })
	b.store.mu.Lock()
	b.store.fail = nil
	b.store.mu.Unlock()
	b.shows("a:1", "b:2")
}

func TestVouches(t *testing.T) {
	b := newBench(t)
	script := "service: {name: web, check: {id: s, args: [/bin/true, x]}}\n"
	b.write("a.yaml", script)
	path := filepath.Join(b.dir, "a.yaml")
	check := func(args ...string) *registry.Check {
		return &registry.Check{Node: "N1", ID: "s", Definition: &registry.CheckDefinition{Kind: registry.CheckScript, Args: args}}
	}
	vouches := func(c *registry.Check) bool {
		return NewFiles(Config{Dir: b.dir, Node: "n1", Catalog: b.cat, View: b.cat.View()}).Vouches(c)
	}
	other := check("/bin/true", "x")
	other.Node = "n2"
	for _, tc := range []struct {
		name      string
		file, dir os.FileMode
		c         *registry.Check
		want      bool
	}{
		{"root's file", 0o644, 0o755, check("/bin/true", "x"), true},
		{"another command", 0o644, 0o755, check("/bin/true", "y"), false},
		{"another node", 0o644, 0o755, other, false},
		{"no definition", 0o644, 0o755, &registry.Check{Node: "n1", ID: "s"}, false},
		{"group can write the file", 0o664, 0o755, check("/bin/true", "x"), false},
		{"all can write the file", 0o646, 0o755, check("/bin/true", "x"), false},
		{"group can write the directory", 0o644, 0o775, check("/bin/true", "x"), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := errors.Join(os.Chmod(path, tc.file), os.Chmod(b.dir, tc.dir)); err != nil {
				t.Fatal(err)
			}
			if got := vouches(tc.c); got != tc.want {
				t.Errorf("vouches %t, want %t", got, tc.want)
			}
		})
	}
	if os.Geteuid() == 0 {
		if err := errors.Join(os.Chmod(path, 0o644), os.Chmod(b.dir, 0o755), os.Chown(path, 65534, 0)); err != nil {
			t.Fatal(err)
		}
		if vouches(check("/bin/true", "x")) {
			t.Error("another user's file is vouched for")
		}
		if err := os.Chown(path, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	// While it runs: not registered before it can be trusted.
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	b.start()
	b.until("refused", func() bool { return b.logged("a script check needs") == 1 })
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	b.shows("web:0")
	if !b.files.Vouches(check("/bin/true", "x")) {
		t.Error("not vouched for although it was registered")
	}
}

func TestOddNames(t *testing.T) {
	b := newBench(t)
	if err := os.Mkdir(filepath.Join(b.dir, "d.yaml"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/nonexistent", filepath.Join(b.dir, "l.yaml")); err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(t.TempDir(), "real")
	if err := os.WriteFile(elsewhere, []byte("service: {name: linked, port: 4}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, filepath.Join(b.dir, "k.yaml")); err != nil {
		t.Fatal(err)
	}
	b.write("x.hcl", "service {}")
	b.write("README", "not a definition")
	b.write(".hidden.yaml", "rubbish: [")
	b.write("#saved.yaml", "rubbish: [")
	b.start()
	b.shows("linked:4")
	if b.logged("HCL files are not read") != 1 || b.logged("refused") != 0 {
		t.Errorf("the log:\n%s", b.log.String())
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	b := newBench(t)
	f := NewFiles(Config{Dir: b.dir, Node: "n1", Catalog: b.cat, View: b.cat.View()})
	problems, err := testutil.CollectAndLint(f)
	if err != nil || len(problems) > 0 {
		t.Error(err, cmp.Diff(nil, problems))
	}
}
