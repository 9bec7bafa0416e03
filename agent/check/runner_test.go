package check

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resolverd/resolverd/registry"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a registry of one node in memory, written to as the catalogue would.
type world struct {
	t    *testing.T
	view *registry.View
	log  *strings.Builder

	mu      sync.Mutex
	rev     uint64
	checks  map[string]*registry.Check
	reports []string // "id status"
	reaped  []string
	fail    error // what Report and Reap return
	probes  map[string]func(context.Context) result
	runs    []run
	begun   time.Time
	runner  *Runner
	stop    func()
}

type run struct {
	id string
	at time.Duration
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, view: registry.NewView(), log: &strings.Builder{}, checks: map[string]*registry.Check{},
		probes: map[string]func(context.Context) result{}, begun: time.Now()}
	w.put(registry.NodeKey("n1"), &registry.Node{Name: "n1"})
	return w
}

func (w *world) put(k registry.Key, part any) {
	w.rev++
	r := registry.Record{Key: k, Created: 1, Modified: w.rev}
	if part != nil {
		r.Value = registry.Encode(part)
	}
	if err := w.view.Apply(registry.Batch{Revision: w.rev, Records: []registry.Record{r}}); err != nil {
		w.t.Error(err)
	}
}

func (w *world) instance(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.put(registry.InstanceRecordKey("n1", id), &registry.Instance{Node: "n1", ID: id, Service: "web", Owner: registry.OwnerAPI})
}

func (w *world) check(c registry.Check) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c.Node = "n1"
	if c.Status == "" {
		c.Status = registry.Critical
	}
	w.checks[c.ID] = &c
	w.put(registry.CheckKey("n1", c.ID), &c)
}

func (w *world) drop(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.checks, id)
	w.put(registry.CheckKey("n1", id), nil)
}

func (w *world) set(id string, s registry.Status, output string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := *w.checks[id]
	if c.Status == s && c.Output == output && c.Ran {
		return
	}
	c.Status, c.Output, c.Ran = s, output, true
	w.checks[id] = &c
	w.put(registry.CheckKey("n1", id), &c)
}

func (w *world) start(edit func(*Config)) {
	cfg := Config{
		Node: "N1", View: w.view, Log: slog.New(slog.NewTextHandler(w.log, nil)),
		Report: func(_ context.Context, _, id string, s registry.Status, output string) error {
			w.mu.Lock()
			err := w.fail
			w.reports = append(w.reports, id+" "+string(s))
			w.mu.Unlock()
			if err == nil {
				w.set(id, s, output)
			}
			return err
		},
		Reap: func(_ context.Context, _, id, _ string) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.fail == nil {
				w.reaped = append(w.reaped, id)
			}
			return w.fail
		},
		newProber: func(_ string, c *registry.Check) (prober, error) { return fakeProbe{w, c.ID}, nil },
	}
	if edit != nil {
		edit(&cfg)
	}
	w.runner = NewRunner(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.runner.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	}
}

type fakeProbe struct {
	w  *world
	id string
}

func (p fakeProbe) probe(ctx context.Context) result {
	p.w.mu.Lock()
	p.w.runs = append(p.w.runs, run{p.id, time.Since(p.w.begun)})
	f := p.w.probes[p.id]
	p.w.mu.Unlock()
	if f == nil {
		return passing("ok")
	}
	return f(ctx)
}

func (w *world) finds(id string, s registry.Status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.probes[id] = func(context.Context) result { return result{s, "found " + string(s)} }
}

func (w *world) status(id string) registry.Status {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.checks[id].Status
}

// gone are the instances that were reaped.
func (w *world) gone() string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return fmt.Sprint(w.reaped)
}

// ran are the runs so far.
func (w *world) ran() []run {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.runs)
}

func (w *world) take() []string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.reports
	w.reports = nil
	return r
}

func tcp() *registry.CheckDefinition { return &registry.CheckDefinition{Kind: registry.CheckTCP} }

func TestRunnerFollowsTheView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.instance("web1")
		w.start(nil)
		defer func() { w.stop() }()
		w.check(registry.Check{ID: "c", InstanceID: "web1", Definition: tcp()})
		w.check(registry.Check{ID: "api-only", InstanceID: "web1"})
		time.Sleep(1100 * time.Millisecond)
		if s := w.status("c"); s != registry.Passing {
			t.Fatalf("after a second a new check is %s", s)
		}
		w.finds("c", registry.Critical)
		time.Sleep(9 * time.Second)
		if s := w.status("c"); s != registry.Passing {
			t.Fatalf("%s before three failures", s)
		}
		time.Sleep(10 * time.Second)
		if s := w.status("c"); s != registry.Critical {
			t.Fatalf("%s after three failures", s)
		}
		if r := w.take(); fmt.Sprint(r) != "[c passing c critical]" {
			t.Errorf("reports %v", r)
		}
		// Someone else writes to it: put right by the next look.
		w.set("c", registry.Passing, "")
		time.Sleep(6 * time.Second)
		if s := w.status("c"); s != registry.Critical {
			t.Errorf("%s after somebody else's write", s)
		}
		w.drop("c")
		time.Sleep(time.Second)
		n := len(w.ran())
		time.Sleep(time.Minute)
		if len(w.ran()) != n {
			t.Error("a check that is gone is still run")
		}
	})
}

func TestRunnerContinuesAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.instance("web1")
		w.check(registry.Check{ID: "c", InstanceID: "web1", Definition: tcp(), Status: registry.Passing, Output: "ok", Ran: true})
		w.start(nil)
		defer func() { w.stop() }()
		time.Sleep(20 * time.Second)
		if r := w.take(); len(r) != 0 {
			t.Errorf("reports %v of a check that is as it was", r)
		}
	})
}

func TestChangedDefinitionStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.instance("web1")
		w.start(nil)
		defer func() { w.stop() }()
		w.check(registry.Check{ID: "c", InstanceID: "web1", Definition: tcp()})
		var begun, ended atomic.Int32
		w.mu.Lock()
		w.probes["c"] = func(ctx context.Context) result {
			begun.Add(1)
			<-ctx.Done()
			ended.Add(1)
			return critical("cancelled")
		}
		w.mu.Unlock()
		d := tcp()
		d.Timeout = registry.Duration(time.Hour)
		w.check(registry.Check{ID: "c", InstanceID: "web1", Definition: d})
		time.Sleep(2 * time.Second)
		w.finds("c", registry.Passing)
		w.check(registry.Check{ID: "c", InstanceID: "web1", Definition: tcp()})
		time.Sleep(2 * time.Second)
		if s := w.status("c"); s != registry.Passing {
			t.Errorf("%s", s)
		}
		if b, e := begun.Load(), ended.Load(); b == 0 || b != e {
			t.Errorf("%d runs of the old definitions began, %d ended", b, e)
		}
	})
}

func TestTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.instance("web1")
		w.start(nil)
		defer func() { w.stop() }()
		w.check(registry.Check{ID: "t", InstanceID: "web1", Definition: &registry.CheckDefinition{Kind: registry.CheckTTL, TTL: registry.Duration(10 * time.Second)}})
		time.Sleep(time.Second)
		w.set("t", registry.Passing, "fine")
		for range 5 {
			time.Sleep(8 * time.Second)
			w.runner.Beat("n1", "t") // the same again is not written
		}
		if s := w.status("t"); s != registry.Passing {
			t.Fatalf("%s although it was reported in time", s)
		}
		time.Sleep(8 * time.Second)
		w.set("t", registry.Warning, "so so") // a change is seen without a beat
		time.Sleep(8 * time.Second)
		if s := w.status("t"); s != registry.Warning {
			t.Fatalf("%s although it was reported in time", s)
		}
		time.Sleep(2100 * time.Millisecond)
		if s := w.status("t"); s != registry.Critical {
			t.Fatalf("%s after the TTL", s)
		}
		time.Sleep(time.Hour)
		if r := w.take(); fmt.Sprint(r) != "[t critical]" {
			t.Errorf("reports %v", r)
		}
		w.set("t", registry.Passing, "back")
		time.Sleep(time.Second)
		if s := w.status("t"); s != registry.Passing {
			t.Errorf("%s after it was reported again", s)
		}
	})
}

func TestReportsAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.instance("web1")
		w.fail = errors.New("no store")
		w.start(nil)
		defer func() { w.stop() }()
		w.check(registry.Check{ID: "c", InstanceID: "web1", Definition: tcp()})
		time.Sleep(10 * time.Minute)
		if n := len(w.take()); n < 10 || n > 40 {
			t.Errorf("%d tries in ten minutes, want a pause that grows to 30 s", n)
		}
		w.mu.Lock()
		w.fail = nil
		w.mu.Unlock()
		time.Sleep(31 * time.Second)
		if s := w.status("c"); s != registry.Passing {
			t.Errorf("%s when the store is back", s)
		}
		if n := strings.Count(w.log.String(), "could not be written"); n != 1 {
			t.Errorf("%d lines in the log about it", n)
		}
	})
}

func TestReapsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.instance("web1")
		w.instance("web2")
		w.start(nil)
		defer func() { w.stop() }()
		d := tcp()
		d.DeregisterCriticalAfter = registry.Duration(30 * time.Second)
		w.check(registry.Check{ID: "c1", InstanceID: "web1", Definition: d})
		w.check(registry.Check{ID: "c2", InstanceID: "web2", Definition: d})
		w.check(registry.Check{ID: registry.ServiceMaintenance + "web2", InstanceID: "web2"})
		w.check(registry.Check{ID: "node", Definition: d})
		w.finds("c1", registry.Critical)
		w.finds("c2", registry.Critical)
		w.finds("node", registry.Critical)
		time.Sleep(30 * time.Second)
		if got := w.gone(); got != "[]" {
			t.Fatalf("reaped %v too early", got)
		}
		time.Sleep(10 * time.Minute)
		if got := w.gone(); got != "[web1]" {
			t.Errorf("reaped %v, want web1 once, and not what is in maintenance", got)
		}
		w.drop(registry.ServiceMaintenance + "web2")
		time.Sleep(61 * time.Second)
		if got := w.gone(); got != "[web1 web2]" {
			t.Errorf("reaped %v", got)
		}
	})
}

func TestAliasFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.instance("web1")
		w.instance("web2")
		alias := func(i string) *registry.CheckDefinition {
			return &registry.CheckDefinition{Kind: registry.CheckAlias, AliasInstance: i}
		}
		w.check(registry.Check{ID: "own", InstanceID: "web1", Status: registry.Warning, Ran: true})
		w.start(nil)
		defer func() { w.stop() }()
		// Two that look at each other.
		w.check(registry.Check{ID: "a2", InstanceID: "web2", Definition: alias("web1")})
		w.check(registry.Check{ID: "a1", InstanceID: "web1", Definition: alias("web2")})
		w.check(registry.Check{ID: "lost", InstanceID: "web1", Definition: alias("nobody")})
		time.Sleep(time.Second)
		for id, want := range map[string]registry.Status{"a2": registry.Critical, "a1": registry.Passing, "lost": registry.Critical} {
			if s := w.status(id); s != want {
				t.Errorf("%s is %s, want %s", id, s, want)
			}
		}
		w.drop("lost")
		time.Sleep(time.Second)
		if s := w.status("a2"); s != registry.Warning {
			t.Errorf("a2 is %s, want warning", s)
		}
		w.set("own", registry.Passing, "")
		time.Sleep(time.Second)
		if s := w.status("a2"); s != registry.Passing {
			t.Errorf("a2 is %s, want passing", s)
		}
	})
}

func TestScriptsNeedAVoucher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.instance("web1")
		w.start(func(c *Config) { c.AllowScript = func(c *registry.Check) bool { return c.ID == "good" } })
		defer func() { w.stop() }()
		for _, id := range []string{"good", "bad"} {
			w.check(registry.Check{ID: id, InstanceID: "web1", Status: registry.Passing, Definition: &registry.CheckDefinition{Kind: registry.CheckScript, Args: []string{"sh", "-c", "ps | grep x"}}})
		}
		time.Sleep(9 * time.Second)
		if s := w.status("bad"); s != registry.Passing {
			t.Errorf("%s before the files had time to be read", s)
		}
		time.Sleep(time.Minute)
		if s := w.status("bad"); s != registry.Critical {
			t.Errorf("a script that nobody vouches for is %s", s)
		}
		for _, r := range w.ran() {
			if r.id == "bad" {
				t.Fatal("it was run")
			}
		}
		if s := w.status("good"); s != registry.Passing {
			t.Errorf("good is %s", s)
		}
		if n := strings.Count(w.log.String(), "check=good"); n != 1 {
			t.Errorf("%d hints about grep, want 1:\n%s", n, w.log)
		}
	})
}

// TestSpread holds 5,000 checks that were registered at once, and 5,000 that an agent
// finds at its start, to an even load.
func TestSpread(t *testing.T) {
	for _, known := range []bool{false, true} {
		t.Run(fmt.Sprintf("known=%t", known), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n = 5000
				w := newWorld(t)
				var rs []registry.Record
				for i := range n {
					id := fmt.Sprintf("web-%d", i)
					rs = append(rs, registry.Record{Key: registry.InstanceRecordKey("n1", id), Value: registry.Encode(&registry.Instance{Node: "n1", ID: id, Service: "web"}), Modified: 9})
					c := &registry.Check{Node: "n1", ID: "c" + id, InstanceID: id, Status: registry.Passing, Output: "ok", Ran: known, Definition: tcp()}
					w.checks[c.ID] = c
					rs = append(rs, registry.Record{Key: registry.CheckKey("n1", c.ID), Value: registry.Encode(c), Modified: 9})
				}
				w.rev = 9
				if err := w.view.Apply(registry.Batch{Revision: 9, Records: rs}); err != nil {
					t.Fatal(err)
				}
				atOnce, most := 0, 0
				w.start(func(c *Config) {
					// The view is left as it is: what a report costs is not this test's.
					c.Report = func(context.Context, string, string, registry.Status, string) error { return nil }
					c.newProber = func(_ string, c *registry.Check) (prober, error) {
						return probeFunc(func(context.Context) result {
							w.mu.Lock()
							w.runs = append(w.runs, run{c.ID, time.Since(w.begun)})
							atOnce++
							most = max(most, atOnce)
							w.mu.Unlock()
							time.Sleep(50 * time.Millisecond)
							w.mu.Lock()
							atOnce--
							w.mu.Unlock()
							return passing("ok")
						}), nil
					}
				})
				time.Sleep(30 * time.Second)
				w.stop()
				const bin = 100 * time.Millisecond
				bins := make([]int, 300)
				count := map[string]int{}
				for _, r := range w.runs {
					bins[min(int(r.at/bin), 299)]++
					count[r.id]++
				}
				for i, c := range bins {
					limit := 150 // 100 is even
					if !known && i <= 10 {
						limit = 700 // the first second
					}
					if c > limit {
						t.Errorf("%d runs in the tenth of a second at %v, want %d at most", c, time.Duration(i)*bin, limit)
					}
				}
				if len(count) != n {
					t.Errorf("%d of %d checks ran", len(count), n)
				}
				for id, c := range count {
					if c < 5 || c > 8 {
						t.Errorf("%s ran %d times in 30 s", id, c)
						break
					}
				}
				if most > 256 {
					t.Errorf("%d at once", most)
				}
			})
		})
	}
}

type probeFunc func(context.Context) result

func (f probeFunc) probe(ctx context.Context) result { return f(ctx) }

// TestNoCatchUp lets every probe hang: places are bounded, and when the trouble is over
// no backlog is worked off.
func TestNoCatchUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.instance("web1")
		var atOnce, most, runs int
		hang := true
		for i := range 100 {
			w.check(registry.Check{ID: fmt.Sprint(i), InstanceID: "web1", Definition: tcp()})
		}
		w.start(func(c *Config) {
			c.MaxProbes = 10
			c.newProber = func(string, *registry.Check) (prober, error) {
				return probeFunc(func(ctx context.Context) result {
					w.mu.Lock()
					atOnce++
					runs++
					most = max(most, atOnce)
					h := hang
					w.mu.Unlock()
					if h {
						<-ctx.Done()
					}
					w.mu.Lock()
					atOnce--
					w.mu.Unlock()
					return passing("ok")
				}), nil
			}
		})
		defer func() { w.stop() }()
		time.Sleep(2 * time.Minute)
		w.mu.Lock()
		hang, runs = false, 0
		w.mu.Unlock()
		time.Sleep(time.Minute)
		w.mu.Lock()
		defer w.mu.Unlock()
		if most != 10 {
			t.Errorf("%d at once, want 10", most)
		}
		if runs < 1100 || runs > 1400 {
			t.Errorf("%d runs in the minute after, want 1,200", runs)
		}
	})
}
