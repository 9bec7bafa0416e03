package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/catalog"
	"github.com/resolverd/resolverd/registry/catalog/catalogtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	byAPI  = catalog.Actor{Owner: registry.OwnerAPI, Name: "api", Source: "127.0.0.1:1"}
	byFile = catalog.Actor{Owner: registry.OwnerFile, Name: "file", Source: "web.yaml"}
	bySync = catalog.Actor{Owner: registry.OwnerSync, Name: "sync"}
	reaper = catalog.Actor{Name: "reaper"}
)

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

type bench struct {
	t testing.TB
	*catalog.Catalog
	store *catalogtest.Store
}

func newBench(t testing.TB) *bench {
	t.Helper()
	st := catalogtest.New()
	b := &bench{t, catalog.New(st.View, st, slog.New(slog.DiscardHandler), func() time.Time { return began }), st}
	b.register(byAPI, catalog.Registration{Node: node(t, "N1", "10.0.0.1")})
	return b
}

func node(t testing.TB, name, addr string) *registry.Node {
	t.Helper()
	h, err := registry.ParseHost(addr)
	if err != nil {
		t.Fatal(err)
	}
	return &registry.Node{Name: name, Address: h}
}

func web(id string, edit ...func(*registry.Instance)) *registry.Instance {
	i := &registry.Instance{Node: "n1", ID: id, Service: "web", Port: 80, Weights: registry.DefaultWeights}
	for _, e := range edit {
		e(i)
	}
	return i
}

func ttl(id, of string, st registry.Status) *registry.Check {
	return &registry.Check{ID: id, InstanceID: of, Status: st, Definition: &registry.CheckDefinition{Kind: registry.CheckTTL, TTL: registry.Duration(30 * time.Second)}}
}

func (b *bench) register(a catalog.Actor, r catalog.Registration) catalog.Result {
	b.t.Helper()
	res, err := b.Register(b.t.Context(), a, r)
	if err != nil {
		b.t.Fatal(err)
	}
	return res
}

func (b *bench) instance(id string) *registry.InstanceState {
	return b.store.View.Load().Instance("n1", id)
}

// checks returns the instance's checks as "id=status", with ! where they have reported.
func (b *bench) checks(id string) []string {
	var out []string
	if i := b.instance(id); i != nil {
		for _, k := range i.Checks {
			s := k.ID + "=" + string(k.Status)
			if k.Ran {
				s += "!"
			}
			out = append(out, s)
		}
	}
	return out
}

// history returns the newest events as words, oldest first.
func (b *bench) history(n int) []string {
	b.t.Helper()
	ev, err := b.History(b.t.Context(), registry.HistoryQuery{Limit: n})
	if err != nil {
		b.t.Fatal(err)
	}
	var out []string
	for _, e := range slices.Backward(ev) {
		out = append(out, strings.Join([]string{e.Actor, e.Subject, e.Action, e.Node, e.Service, e.Instance, e.ID, e.From, e.To}, "|"))
	}
	return out
}

func TestSameRegistrationWritesNothing(t *testing.T) {
	b := newBench(t)
	reg := func() catalog.Registration {
		return catalog.Registration{Instance: web("w1"), Checks: []*registry.Check{ttl("", "w1", "")}, ReplaceChecks: true}
	}
	if r := b.register(byAPI, reg()); !r.Changed {
		t.Fatal("the first registration changed nothing")
	}
	if _, err := b.SetStatus(t.Context(), byAPI, "n1", "service:w1", registry.Passing, "ok"); err != nil {
		t.Fatal(err)
	}
	before := b.store.Commits()
	if r := b.register(byAPI, reg()); r.Changed || b.store.Commits() != before {
		t.Fatalf("the same registration wrote: %+v", r)
	}
	if diff := cmp.Diff([]string{"service:w1=passing!"}, b.checks("w1")); diff != "" {
		t.Fatal(diff)
	}
	if r, err := b.SetStatus(t.Context(), byAPI, "n1", "service:w1", registry.Passing, "ok"); err != nil || r.Changed {
		t.Fatalf("the same status wrote: %+v %v", r, err)
	}
	want := []string{
		"api|node|register|N1|||||10.0.0.1",
		"api|instance|register|N1|web||w1||:80",
		"api|check|register|N1|web|w1|service:w1||critical",
		"api|check|status|N1|web|w1|service:w1|critical|passing",
	}
	if diff := cmp.Diff(want, b.history(10)); diff != "" {
		t.Fatal(diff)
	}
}

func TestChecksOfARegistration(t *testing.T) {
	http := func(url string) *registry.CheckDefinition {
		return &registry.CheckDefinition{Kind: registry.CheckHTTP, URL: url}
	}
	type step struct {
		name string
		reg  catalog.Registration
		want []string
	}
	k := func(id string, d *registry.CheckDefinition, st registry.Status) *registry.Check {
		return &registry.Check{ID: id, InstanceID: "w1", Definition: d, Status: st}
	}
	slow := http("http://a/")
	slow.Interval = registry.Duration(time.Minute)
	steps := []step{
		{"new checks are critical and have not run", catalog.Registration{Checks: []*registry.Check{k("a", http("http://a/"), ""), k("b", nil, "")}}, []string{"a=critical", "b=critical"}},
		{"not listed stays", catalog.Registration{Checks: []*registry.Check{k("c", nil, registry.Passing)}}, []string{"a=critical", "b=critical", "c=passing!"}},
		{"replaced", catalog.Registration{Checks: []*registry.Check{k("a", http("http://a/"), registry.Passing)}, ReplaceChecks: true}, []string{"a=critical"}},
		{"another interval keeps the status", catalog.Registration{Checks: []*registry.Check{k("a", slow, registry.Warning)}}, []string{"a=critical"}},
		{"another target takes the one given", catalog.Registration{Checks: []*registry.Check{k("a", http("http://b/"), registry.Warning)}}, []string{"a=warning!"}},
		{"another target starts anew", catalog.Registration{Checks: []*registry.Check{k("a", http("http://c/"), "")}}, []string{"a=critical"}},
		{"a status that counts", catalog.Registration{Checks: []*registry.Check{k("a", http("http://c/"), registry.Passing)}, StatusCounts: true}, []string{"a=passing!"}},
		{"none given with status counting", catalog.Registration{Checks: []*registry.Check{k("a", http("http://c/"), "")}, StatusCounts: true}, []string{"a=passing!"}},
	}
	b := newBench(t)
	for _, s := range steps {
		s.reg.Instance = web("w1")
		b.register(byAPI, s.reg)
		if diff := cmp.Diff(s.want, b.checks("w1")); diff != "" {
			t.Fatalf("%s: %s", s.name, diff)
		}
	}
}

func TestDefaultCheckIDs(t *testing.T) {
	b := newBench(t)
	b.register(byAPI, catalog.Registration{Instance: web("w1"), Checks: []*registry.Check{ttl("", "w1", ""), ttl("", "w1", ""), {Name: "disk"}}})
	if diff := cmp.Diff([]string{"disk=critical", "service:w1:1=critical", "service:w1:2=critical"}, sorted(b.checks("w1"))); diff != "" {
		t.Fatal(diff)
	}
	if k := b.Check("N1", "service:w1:2"); k == nil || k.Name != "Service 'web' check" {
		t.Fatalf("check: %+v", k)
	}
	if k := b.Check("n1", "disk"); k == nil || k.InstanceID != "" {
		t.Fatalf("node check: %+v", k)
	}
}

func sorted(s []string) []string { slices.Sort(s); return s }

func TestOwnership(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	file := func(def string) (catalog.Result, error) {
		return b.Register(ctx, byFile, catalog.Registration{Instance: web("w1"), Definition: def})
	}
	expect := func(step string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Fatalf("%s: %v, want %v", step, err, want)
		}
	}
	_, err := file("d1")
	expect("the file registers", err, nil)
	_, err = b.Register(ctx, bySync, catalog.Registration{Instance: web("w1"), Definition: "x"})
	expect("another owner", err, catalog.ErrOwned)
	_, err = b.Deregister(ctx, bySync, "n1", "w1")
	expect("another owner deregisters", err, catalog.ErrOwned)

	left, err := b.Deregister(ctx, byAPI, "n1", "w1")
	expect("the API deregisters", err, nil)
	if left.Tombstone != registry.OwnerFile {
		t.Fatalf("who would bring it back: %q", left.Tombstone)
	}
	if ts := b.store.View.Load().Tombstone("n1", "w1"); ts == nil || ts.Definition != "d1" || ts.Owner != registry.OwnerFile || !strings.Contains(ts.By, "127.0.0.1") {
		t.Fatalf("tombstone: %+v", ts)
	}
	_, err = file("d1")
	expect("the file as it was", err, catalog.ErrTombstoned)
	_, err = file("d2")
	expect("the file changed", err, nil)
	if b.store.View.Load().Tombstone("n1", "w1") != nil {
		t.Fatal("the tombstone outlived the changed definition")
	}

	_, err = b.Deregister(ctx, reaper, "n1", "w1")
	expect("the reaper", err, nil)
	_, err = file("d2")
	expect("the file after the reaper", err, catalog.ErrTombstoned)
	_, err = b.Register(ctx, byAPI, catalog.Registration{Instance: web("w1")})
	expect("the API registers", err, nil)
	if b.store.View.Load().Tombstone("n1", "w1") != nil || b.instance("w1").Owner != registry.OwnerAPI {
		t.Fatal("an explicit registration did not clear the tombstone, or not take the instance")
	}
	_, err = file("d2")
	expect("the file while the API owns", err, catalog.ErrOwned)
	_, err = b.Deregister(ctx, byFile, "n1", "w1")
	expect("the file goes while the API owns", err, catalog.ErrOwned)
	_, err = b.Deregister(ctx, byAPI, "n1", "w1")
	expect("the owner deregisters", err, nil)
	if b.store.View.Load().Tombstone("n1", "w1") != nil {
		t.Fatal("the owner left a tombstone for itself")
	}

	_, err = file("d2")
	expect("the file again", err, nil)
	_, err = b.Deregister(ctx, byAPI, "n1", "w1")
	expect("the API deregisters again", err, nil)
	r, err := b.Deregister(ctx, byFile, "n1", "w1")
	expect("the file goes", err, nil)
	if !r.Changed || b.store.View.Load().Tombstone("n1", "w1") != nil {
		t.Fatal("the tombstone outlived its file")
	}
	_, err = b.Deregister(ctx, byFile, "n1", "w1")
	expect("the file goes twice", err, catalog.ErrNotFound)
}

func TestTakeOverByTheAPIIsInTheHistory(t *testing.T) {
	b := newBench(t)
	b.register(byFile, catalog.Registration{Instance: web("w1"), Definition: "d"})
	b.register(byAPI, catalog.Registration{Instance: web("w1")})
	ev, err := b.History(t.Context(), registry.HistoryQuery{Name: "w1", Limit: 1})
	if err != nil || len(ev) != 1 || ev[0].Action != "update" || !strings.Contains(ev[0].Reason, "owner was file") || ev[0].Time != began || ev[0].Source != "127.0.0.1:1" || ev[0].Revision == 0 {
		t.Fatalf("%+v %v", ev, err)
	}
}

func TestDeregisterTakesTheChecksAlong(t *testing.T) {
	b := newBench(t)
	b.register(byAPI, catalog.Registration{Instance: web("w1"), Checks: []*registry.Check{ttl("c1", "w1", ""), {ID: "disk"}}})
	b.register(byAPI, catalog.Registration{Instance: web("w2")})
	if _, err := b.SetMaintenance(t.Context(), byAPI, "n1", "w1", true, "deploy"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Deregister(t.Context(), byAPI, "N1", "w1"); err != nil {
		t.Fatal(err)
	}
	want := []string{registry.CheckKey("n1", "disk").String(), registry.InstanceRecordKey("n1", "w2").String(), registry.NodeKey("n1").String()}
	if diff := cmp.Diff(want, b.store.Keys()); diff != "" {
		t.Fatal(diff)
	}
}

func TestMaintenance(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	b.register(byAPI, catalog.Registration{Instance: web("w1"), Checks: []*registry.Check{ttl("c", "w1", registry.Passing)}})
	set := func(id string, on bool, reason string, want bool) {
		t.Helper()
		r, err := b.SetMaintenance(ctx, byAPI, "n1", id, on, reason)
		if err != nil || r.Changed != want {
			t.Fatalf("%q on=%v: %+v %v", id, on, r, err)
		}
	}
	set("w1", false, "", false)
	set("w1", true, "deploy", true)
	set("w1", true, "deploy", false)
	k := b.Check("n1", "_service_maintenance:w1")
	if k == nil || k.Notes != "deploy" || k.Name != "Service Maintenance Mode" || k.Status != registry.Critical || b.instance("w1").State != registry.Maintenance {
		t.Fatalf("%+v", k)
	}
	b.register(byAPI, catalog.Registration{Instance: web("w1"), ReplaceChecks: true})
	if b.instance("w1").State != registry.Maintenance {
		t.Fatal("a registration ended the maintenance")
	}
	if _, err := b.DeregisterCheck(ctx, byAPI, "n1", k.ID); err == nil {
		t.Fatal("the maintenance check could be deregistered by itself")
	}
	if _, err := b.SetStatus(ctx, byAPI, "n1", k.ID, registry.Passing, ""); err == nil {
		t.Fatal("the maintenance check could be set to passing")
	}
	set("w1", true, "", true)
	if k := b.Check("n1", k.ID); !strings.Contains(k.Notes, "no reason was provided") {
		t.Fatalf("%+v", k)
	}
	set("w1", false, "", true)
	set("", true, "power", true)
	if k := b.Check("n1", "_node_maintenance"); k == nil || k.Name != "Node Maintenance Mode" || b.instance("w1").State != registry.Maintenance {
		t.Fatalf("%+v", k)
	}
	set("", false, "", true)
	if _, err := b.SetMaintenance(ctx, byAPI, "n1", "none", true, ""); !errors.Is(err, catalog.ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := b.SetMaintenance(ctx, byAPI, "none", "", true, ""); !errors.Is(err, catalog.ErrNotFound) {
		t.Fatal(err)
	}
}

func TestDrain(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	for n := range 100 {
		b.register(byFile, catalog.Registration{Instance: web(fmt.Sprint("w", n)), Definition: "d1"})
	}
	if r, err := b.SetDrain(ctx, byAPI, "n1", "", true); err != nil || !r.Changed {
		t.Fatal(r, err)
	}
	if r, err := b.SetDrain(ctx, byAPI, "n1", "", true); err != nil || r.Changed {
		t.Fatal(r, err)
	}
	for n := range 100 {
		if b.instance(fmt.Sprint("w", n)).State != registry.Draining {
			t.Fatalf("w%d does not drain", n)
		}
	}
	b.register(byFile, catalog.Registration{Instance: web("w1"), Definition: "d1"})
	if !b.instance("w1").Drain {
		t.Fatal("the same registration ended the drain")
	}
	b.register(byFile, catalog.Registration{Instance: web("w1"), Definition: "d2"})
	if b.instance("w1").Drain {
		t.Fatal("a changed definition did not end the drain")
	}
	if _, err := b.SetDrain(ctx, byAPI, "n1", "w2", false); err != nil || b.instance("w2").Drain {
		t.Fatal(err)
	}
	if _, err := b.SetDrain(ctx, byAPI, "n1", "none", true); !errors.Is(err, catalog.ErrNotFound) {
		t.Fatal(err)
	}
}

func TestDeregisterNode(t *testing.T) {
	b := newBench(t)
	b.register(byAPI, catalog.Registration{Node: node(t, "n2", "10.0.0.2")})
	for n := range 150 {
		a, def := byAPI, ""
		if n%2 == 0 {
			a, def = byFile, "d"
		}
		b.register(a, catalog.Registration{
			Instance:   web(fmt.Sprint("w", n), func(i *registry.Instance) { i.Node = "n2" }),
			Checks:     []*registry.Check{ttl("", fmt.Sprint("w", n), "")},
			Definition: def,
		})
	}
	b.register(byAPI, catalog.Registration{Checks: []*registry.Check{{Node: "n2", ID: "disk"}}})
	if r, err := b.DeregisterNode(t.Context(), byAPI, "N2"); err != nil || !r.Changed {
		t.Fatal(r, err)
	}
	for _, k := range b.store.Keys() {
		if strings.Contains(k, "/n2") && !strings.Contains(k, "/tomb/") {
			t.Errorf("%s is left", k)
		}
	}
	if _, err := b.Register(t.Context(), byFile, catalog.Registration{Node: node(t, "n2", "10.0.0.2"), Instance: web("w0", func(i *registry.Instance) { i.Node = "n2" }), Definition: "d"}); !errors.Is(err, catalog.ErrTombstoned) {
		t.Fatalf("the file's instance came back: %v", err)
	}
	if _, err := b.DeregisterNode(t.Context(), byAPI, "n2"); !errors.Is(err, catalog.ErrNotFound) {
		t.Fatal(err)
	}
}

func TestNodeWhoseAgentRunsStays(t *testing.T) {
	b := newBench(t)
	n := node(t, "n2", "10.0.0.2")
	n.Agent = true
	b.register(byAPI, catalog.Registration{Node: n})
	alive := registry.Change{}
	alive.Put(registry.AliveKey("n2"), struct{}{})
	if _, err := b.store.Commit(t.Context(), alive); err != nil {
		t.Fatal(err)
	}
	if _, err := b.DeregisterNode(t.Context(), byAPI, "n2"); !errors.Is(err, catalog.ErrAlive) {
		t.Fatal(err)
	}
	if _, err := b.store.Commit(t.Context(), registry.Change{Deletes: []registry.Key{registry.AliveKey("n2")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.DeregisterNode(t.Context(), byAPI, "n2"); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	for name, do := range map[string]func() error{
		"instance on no node": func() error {
			_, err := b.Register(ctx, byAPI, catalog.Registration{Instance: web("w", func(i *registry.Instance) { i.Node = "none" })})
			return err
		},
		"check of no instance": func() error {
			_, err := b.RegisterCheck(ctx, byAPI, &registry.Check{Node: "n1", ID: "c", InstanceID: "none"})
			return err
		},
		"deregister":       func() error { _, err := b.Deregister(ctx, byAPI, "n1", "none"); return err },
		"deregister check": func() error { _, err := b.DeregisterCheck(ctx, byAPI, "n1", "none"); return err },
		"status":           func() error { _, err := b.SetStatus(ctx, byAPI, "none", "none", registry.Passing, ""); return err },
	} {
		if err := do(); !errors.Is(err, catalog.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConflictIsRetried(t *testing.T) {
	b := newBench(t)
	n := 0
	b.store.Before = func(registry.Change) error {
		if n++; n <= 3 {
			return registry.ErrConflict
		}
		return nil
	}
	synctest.Test(t, func(t *testing.T) {
		if r, err := b.Register(t.Context(), byAPI, catalog.Registration{Instance: web("w1")}); err != nil || !r.Changed || n != 4 {
			t.Fatalf("%+v %v after %d tries", r, err, n)
		}
		b.store.Before = func(registry.Change) error { return registry.ErrConflict }
		if _, err := b.Register(t.Context(), byAPI, catalog.Registration{Instance: web("w2")}); !errors.Is(err, registry.ErrConflict) {
			t.Fatalf("endless conflict: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := b.Register(ctx, byAPI, catalog.Registration{Instance: web("w2")}); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("no time: %v", err)
		}
		full := errors.New("disk full")
		b.store.Before = func(registry.Change) error { return full }
		if _, err := b.Register(t.Context(), byAPI, catalog.Registration{Instance: web("w2")}); !errors.Is(err, full) {
			t.Fatalf("another error: %v", err)
		}
	})
}

// TestAnotherProcessComesFirst: what was decided on is gone by the time of the commit.
func TestAnotherProcessComesFirst(t *testing.T) {
	b := newBench(t)
	b.register(byAPI, catalog.Registration{Instance: web("w1")})
	b.store.Before = func(registry.Change) error {
		b.store.Before = nil
		_, err := b.store.Commit(t.Context(), registry.Change{Deletes: []registry.Key{registry.InstanceRecordKey("n1", "w1")}})
		return err
	}
	if _, err := b.RegisterCheck(t.Context(), byAPI, &registry.Check{Node: "n1", ID: "c", InstanceID: "w1"}); !errors.Is(err, catalog.ErrNotFound) {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{registry.NodeKey("n1").String()}, b.store.Keys()); diff != "" {
		t.Fatal(diff)
	}
}

func TestReplyComesWhenTheViewShowsTheWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.store.Hold()
		done := make(chan catalog.Result)
		go func() { done <- b.register(byAPI, catalog.Registration{Instance: web("w1")}) }()
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("answered before the view showed it")
		default:
		}
		b.store.Release()
		r := <-done
		if b.store.View.Load().Revision < r.Revision || b.instance("w1") == nil {
			t.Fatal("the view does not show it")
		}
		// A view that stands still delays a reply, not for ever.
		b.store.Hold()
		at := time.Now()
		b.register(byAPI, catalog.Registration{Instance: web("w2")})
		if d := time.Since(at); d < time.Second || d > time.Minute {
			t.Fatalf("waited %v", d)
		}
		b.store.Release()
	})
}

func TestTurnsAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.store.Hold()
		go b.register(byAPI, catalog.Registration{Instance: web("w1")})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := b.Deregister(ctx, byAPI, "n1", "w1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("did not wait for its turn: %v", err)
		}
		b.store.Release()
		synctest.Wait()
		if _, err := b.Deregister(t.Context(), byAPI, "n1", "w1"); err != nil {
			t.Fatal(err)
		}
	})
}

// TestWritersAtOnce: whoever comes first, nothing is lost and nothing is left behind.
func TestWritersAtOnce(t *testing.T) {
	b := newBench(t)
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			id := fmt.Sprint("w", n%4)
			for range 30 {
				_, err := b.Register(t.Context(), byAPI, catalog.Registration{
					Instance: web(id), Checks: []*registry.Check{ttl("", id, "")},
				})
				if err != nil {
					t.Error(err)
				}
				if _, err := b.RegisterCheck(t.Context(), byAPI, &registry.Check{Node: "n1", ID: id + "-more", InstanceID: id}); err != nil && !errors.Is(err, catalog.ErrNotFound) {
					t.Error(err)
				}
				if _, err := b.SetStatus(t.Context(), byAPI, "n1", "service:"+id, registry.Passing, ""); err != nil && !errors.Is(err, catalog.ErrNotFound) {
					t.Error(err)
				}
				if _, err := b.Deregister(t.Context(), byAPI, "n1", id); err != nil && !errors.Is(err, catalog.ErrNotFound) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff([]string{registry.NodeKey("n1").String()}, b.store.Keys()); diff != "" {
		t.Fatal(diff)
	}
}

func TestOutputIsCut(t *testing.T) {
	b := newBench(t)
	b.register(byAPI, catalog.Registration{Checks: []*registry.Check{{Node: "n1", ID: "c"}}})
	if _, err := b.SetStatus(t.Context(), byAPI, "n1", "c", registry.Warning, strings.Repeat("ä", 4000)); err != nil {
		t.Fatal(err)
	}
	if k := b.Check("n1", "c"); len(k.Output) != 4096 {
		t.Fatalf("%d octets", len(k.Output))
	}
}
