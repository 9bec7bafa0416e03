package agent_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/relay"
	"github.com/resolverd/resolverd/registry/store"
)

// The size that one registry is built for: 5,000 hosts with 20 instances each, one check
// an instance, and 100 changes a second.
const (
	scaleOnHost    = 20
	scaleServices  = 1_000
	scaleRate      = 100
	scaleSeconds   = 3
	scaleInstances = scaleHosts * scaleOnHost
	scaleAtOnce    = 20 // hosts in one change
)

func scaleNode(h int) string       { return fmt.Sprintf("host-%04d", h) }
func scaleService(h, i int) string { return fmt.Sprintf("svc-%03d", (h*scaleOnHost+i)%scaleServices) }

func scaleAddr(h, i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(h >> 8), byte(h), byte(i + 1)})
}
func scaleID(h, i int) string { return fmt.Sprintf("%s-%d", scaleService(h, i), i) }
func scaleCheck(h, i int) *registry.Check {
	return &registry.Check{
		Node: scaleNode(h), ID: "service:" + scaleID(h, i), Name: "answers", InstanceID: scaleID(h, i), Status: registry.Passing, Ran: true, Output: "TCP connect: ok",
		Definition: &registry.CheckDefinition{Kind: registry.CheckTCP, Target: fmt.Sprint(scaleAddr(h, i), ":8080"), Interval: registry.Duration(5 * time.Second)},
	}
}

// scaleHost adds what is on one host to the change.
func scaleHost(c *registry.Change, h int) {
	n := scaleNode(h)
	c.Put(registry.NodeKey(n), &registry.Node{Name: n, Address: registry.HostOf(scaleAddr(h, 100)), Zone: "z1"})
	for i := range scaleOnHost {
		c.Put(registry.InstanceRecordKey(n, scaleID(h, i)), &registry.Instance{
			Node: n, ID: scaleID(h, i), Service: scaleService(h, i), Tags: []string{"v1", "primary"}, Meta: map[string]string{"version": "1.2.3"},
			Address: registry.HostOf(scaleAddr(h, i)), Port: 8080, Weights: registry.DefaultWeights, Priority: 1, Owner: registry.OwnerAPI,
		})
		c.Put(registry.CheckKey(n, "service:"+scaleID(h, i)), scaleCheck(h, i))
	}
	c.Events = append(c.Events, registry.Event{Subject: "node", Action: "register", Node: n, Actor: "test"})
}

// scaled is the path from the store to an answerer's view, in one process.
type scaled struct {
	store    *store.Store
	follower *registry.View
	disk     string
	peers    func() []relay.Peer
}

func newScaled(t *testing.T) *scaled {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	dir := t.TempDir()
	st, err := store.Open(context.Background(), store.Config{Dir: filepath.Join(dir, "store"), Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	own := registry.NewView()
	hub := relay.NewHub(relay.HubConfig{View: own, Store: st.ID(), Log: quiet})
	l, err := relay.Listen(filepath.Join(dir, "run", "relay.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := &scaled{store: st, follower: registry.NewView(), disk: t.TempDir(), peers: hub.Peers}
	d := relay.NewDisk(relay.DiskConfig{Dir: s.disk, Log: quiet})
	f := relay.NewFollower(relay.FollowerConfig{Path: l.Addr().String(), View: s.follower, Disk: d, Log: quiet})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		st.Follow(ctx, 0, func(b registry.Batch) error {
			if err := own.Apply(b); err != nil {
				t.Error(err)
			}
			hub.Publish(b)
			return nil
		})
	})
	wg.Go(func() { hub.Serve(ctx, l) })
	wg.Go(func() { f.Run(ctx) })
	wg.Go(func() { d.Run(ctx, s.follower) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *scaled) shows(t *testing.T, rev uint64) {
	t.Helper()
	await(t, s.follower, fmt.Sprint("revision ", rev), func(v *registry.Snapshot) bool { return v.Revision >= rev })
}

func percentile(d []time.Duration, p int) time.Duration {
	slices.Sort(d)
	return d[min(len(d)-1, len(d)*p/100)]
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestScale has bounds that are far from what a quiet machine does: it is to notice an
// order of magnitude. The figures are in docs/benchmarks.md.
func TestScale(t *testing.T) {
	s := newScaled(t)
	ctx := context.Background()

	// Three views and a store in one process: collect less often while it is filled.
	percent := debug.SetGCPercent(400)
	start := time.Now()
	hosts := make(chan int)
	var wg sync.WaitGroup
	var mu sync.Mutex
	last := uint64(0)
	for range 8 {
		wg.Go(func() {
			for h := range hosts {
				var c registry.Change
				for n := range scaleAtOnce {
					scaleHost(&c, h+n)
				}
				rev, err := s.store.Commit(ctx, c)
				if err != nil {
					t.Error(err)
					continue
				}
				mu.Lock()
				last = max(last, rev)
				mu.Unlock()
			}
		})
	}
	for h := 0; h < scaleHosts; h += scaleAtOnce {
		hosts <- h
	}
	close(hosts)
	wg.Wait()
	written := time.Since(start)
	s.shows(t, last)
	t.Logf("%d instances on %d hosts written in %v, shown by the answerer's view after %v", scaleInstances, scaleHosts, written, time.Since(start))

	debug.SetGCPercent(percent)
	commits, lags := s.change(t)
	commit50, commit99 := percentile(commits, 50), percentile(commits, 99)
	lag50, lag99 := percentile(lags, 50), percentile(lags, 99)
	t.Logf("%d changes a second: commit p50 %v p99 %v; from the call to shown by the answerer p50 %v p99 %v", scaleRate, commit50, commit99, lag50, lag99)
	if lag50 > 250*time.Millisecond || lag99 > 3*time.Second {
		t.Errorf("an answerer shows a change after p50 %v, p99 %v", lag50, lag99)
	}

	lookup := s.lookups(t)
	t.Logf("lookup of a service %v", lookup)
	if lookup > 5*time.Microsecond {
		t.Errorf("a lookup takes %v", lookup)
	}
	file, used := s.store.Size()
	t.Logf("store: file %d MiB, %d MiB in use", file>>20, used>>20)
	s.fromDisk(t)
}

// change writes at the rate and returns how long each commit took, and how long until the
// answerer's view showed it, both from the call.
func (s *scaled) change(t *testing.T) (commits, lags []time.Duration) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	tick := time.NewTicker(time.Second / scaleRate)
	defer tick.Stop()
	for n := range scaleRate * scaleSeconds {
		<-tick.C
		h, i := n*7919%scaleHosts, n%scaleOnHost
		c := scaleCheck(h, i)
		c.Status, c.Output = registry.Critical, fmt.Sprint("connection refused ", n)
		var ch registry.Change
		ch.Put(registry.CheckKey(c.Node, c.ID), c)
		ch.Events = []registry.Event{{Subject: "check", Action: "status", Node: c.Node, ID: c.ID, Actor: "check"}}
		wg.Go(func() {
			start := time.Now()
			rev, err := s.store.Commit(context.Background(), ch)
			took := time.Since(start)
			if err != nil {
				t.Error(err)
				return
			}
			s.shows(t, rev)
			mu.Lock()
			commits, lags = append(commits, took), append(lags, time.Since(start))
			mu.Unlock()
		})
	}
	wg.Wait()
	return commits, lags
}

// lookups returns what one lookup of a service takes while the view changes.
func (s *scaled) lookups(t *testing.T) time.Duration {
	names := make([]string, scaleServices)
	for n := range names {
		names[n] = fmt.Sprintf("svc-%03d", n)
	}
	const rounds = 500
	start := time.Now()
	for n := range rounds * scaleServices {
		svc := s.follower.Load().Service(names[n%scaleServices])
		if svc == nil || len(svc.Instances) != scaleInstances/scaleServices {
			t.Fatalf("service %s: %+v", names[n%scaleServices], svc)
		}
	}
	return time.Since(start) / (rounds * scaleServices)
}

// fromDisk starts an answerer from what the disk has, and weighs its view.
func (s *scaled) fromDisk(t *testing.T) {
	name := filepath.Join(s.disk, "view")
	timeout := time.After(30 * time.Second)
	before := heap()
	v := registry.NewView()
	var took time.Duration
	for v.Load().Node(scaleNode(scaleHosts-1)) == nil {
		select {
		case <-timeout:
			t.Fatalf("not on disk: %s", name)
		case <-time.After(100 * time.Millisecond):
		}
		v = registry.NewView()
		start := time.Now()
		n, _ := relay.NewDisk(relay.DiskConfig{Dir: s.disk, Log: slog.New(slog.DiscardHandler)}).Load(v)
		took = time.Since(start)
		t.Logf("%d records read from disk in %v", n, took)
	}
	size := heap() - before
	t.Logf("view of %d instances with a check each: %d MiB", scaleInstances, size>>20)
	if size > 600<<20 {
		t.Errorf("the view takes %d MiB", size>>20)
	}
	if took > 30*time.Second {
		t.Errorf("the view was read in %v", took)
	}
	runtime.KeepAlive(v)
}
