package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/resolverd/resolverd/registry"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

func nodeRecord(name string, rev uint64) registry.Record {
	return registry.Record{Key: registry.NodeKey(name), Value: registry.Encode(&registry.Node{Name: name}), Created: rev, Modified: rev}
}

func instanceRecord(node, id, service string, rev uint64) registry.Record {
	return registry.Record{
		Key:     registry.InstanceRecordKey(node, id),
		Value:   registry.Encode(&registry.Instance{Node: node, ID: id, Service: service, Port: 80, Weights: registry.DefaultWeights, Owner: registry.OwnerAPI}),
		Created: rev, Modified: rev,
	}
}

// source is an agent's side: a view and its hub.
type source struct {
	view *registry.View
	hub  *Hub
	path string
	rev  uint64
	stop func()
}

func newSource(t testing.TB, edit ...func(*HubConfig)) *source {
	t.Helper()
	s := &source{view: registry.NewView(), path: filepath.Join(t.TempDir(), "run", "relay.sock"), rev: 1}
	cfg := HubConfig{View: s.view, Store: 7, Node: "n1", Log: quiet, Tick: 20 * time.Millisecond}
	for _, e := range edit {
		e(&cfg)
	}
	s.hub = NewHub(cfg)
	s.publish(t, registry.Batch{Revision: 1, Whole: true, Records: []registry.Record{nodeRecord("n1", 1)}})
	s.serve(t)
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *source) serve(t testing.TB) {
	t.Helper()
	l, err := Listen(s.path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.hub.Serve(ctx, l); err != nil {
			t.Error(err)
		}
	})
	s.stop = func() { cancel(); wg.Wait() }
}

func (s *source) publish(t testing.TB, b registry.Batch) {
	t.Helper()
	if err := s.view.Apply(b); err != nil {
		t.Fatal(err)
	}
	s.hub.Publish(b)
}

// write publishes n revisions of one instance each.
func (s *source) write(t testing.TB, n int) {
	for range n {
		s.rev++
		s.publish(t, registry.Batch{Revision: s.rev, Records: []registry.Record{instanceRecord("n1", fmt.Sprint("i", s.rev%50), "web", s.rev)}})
	}
}

// run starts the follower and returns what ends it.
func run(f *Follower) func() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { f.Run(ctx) })
	return func() { cancel(); wg.Wait() }
}

// await waits until the view shows the revision.
func await(t testing.TB, v *registry.View, rev uint64) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		changed, done := v.Listen(registry.Topic{Kind: registry.TopicAny})
		if v.Load().Revision >= rev {
			done()
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("view shows %d, want %d", v.Load().Revision, rev)
		}
		done()
	}
}

func same(t testing.TB, a, b *registry.View) {
	t.Helper()
	x, y := map[string]string{}, map[string]string{}
	for _, r := range a.Records().Records {
		x[r.Key.String()] = fmt.Sprint(r.Created, r.Modified, string(r.Value))
	}
	for _, r := range b.Records().Records {
		y[r.Key.String()] = fmt.Sprint(r.Created, r.Modified, string(r.Value))
	}
	if diff := cmp.Diff(x, y); diff != "" {
		t.Fatal(diff)
	}
}

func TestFollow(t *testing.T) {
	s := newSource(t)
	s.write(t, 100)
	v := registry.NewView()
	f := NewFollower(FollowerConfig{Path: s.path, View: v, Name: "me", Log: quiet})
	stop := run(f)
	await(t, v, s.rev)
	s.write(t, 500)
	await(t, v, s.rev)
	same(t, s.view, v)
	if st := f.Stats(); st.Wholes != 1 || st.Sessions != 1 || !st.Connected || st.Faults != 0 {
		t.Errorf("%+v", st)
	}
	if age, ok := v.Age(time.Now()); !ok || age > time.Minute {
		t.Errorf("age %v %v", age, ok)
	}
	for deadline := time.Now().Add(5 * time.Second); ; {
		if p := s.hub.Peers(); len(p) == 1 && p[0].Name == "me" && p[0].Acked == s.rev {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("%+v", p)
		}
	}

	// The hub goes and comes back: the follower resumes, what did not change keeps its epoch.
	epoch := v.Load().Service("web").Epoch
	was := epoch.Load()
	s.stop()
	s.serve(t)
	for f.Stats().Sessions < 2 {
		time.Sleep(time.Millisecond)
	}
	if st := f.Stats(); st.Wholes != 1 || epoch.Load() != was {
		t.Errorf("not resumed: %+v, epoch %d then %d", st, was, epoch.Load())
	}
	s.write(t, 1)
	await(t, v, s.rev)
	same(t, s.view, v)
	stop()
}

func TestFollowerThatFellBehindGetsEverythingAndKeepsEpochs(t *testing.T) {
	s := newSource(t, func(c *HubConfig) { c.RingFrames = 8 })
	s.publish(t, registry.Batch{Revision: 2, Records: []registry.Record{instanceRecord("n1", "steady", "db", 2)}})
	s.rev = 2
	s.write(t, 3)
	v := registry.NewView()
	f := NewFollower(FollowerConfig{Path: s.path, View: v, Log: quiet})
	stop := run(f)
	await(t, v, s.rev)
	stop()
	epoch := v.Load().Service("db").Epoch
	was, names := epoch.Load(), v.Names.Load()
	s.write(t, 100)
	stop = run(f)
	await(t, v, s.rev)
	same(t, s.view, v)
	if f.Stats().Wholes != 2 || v.Load().Service("db").Epoch != epoch || epoch.Load() != was || v.Names.Load() != names {
		t.Errorf("%+v, epoch %d then %d, names %d then %d", f.Stats(), was, epoch.Load(), names, v.Names.Load())
	}
	stop()
}

func TestStoreMadeAnew(t *testing.T) {
	s := newSource(t)
	s.write(t, 50)
	v := registry.NewView()
	f := NewFollower(FollowerConfig{Path: s.path, View: v, Log: quiet})
	stop := run(f)
	defer func() { stop() }()
	await(t, v, s.rev)
	serial := v.Load().Serial
	s.stop()

	n := &source{view: registry.NewView(), path: s.path, rev: 3}
	n.hub = NewHub(HubConfig{View: n.view, Store: 8, Log: quiet, Tick: 20 * time.Millisecond})
	n.publish(t, registry.Batch{Revision: 3, Whole: true, Records: []registry.Record{nodeRecord("n2", 3)}})
	n.serve(t)
	defer func() { n.stop() }()
	for f.Stats().Wholes < 2 {
		time.Sleep(time.Millisecond)
	}
	n.write(t, 1)
	for v.Load().Revision != 4 {
		time.Sleep(time.Millisecond)
	}
	same(t, n.view, v)
	if got := v.Load().Serial; got <= serial {
		t.Errorf("serial went from %d to %d", serial, got)
	}
	s.stop = func() {}
}

// TestSlowFollower has one that reads nothing: it is cut, others do not notice.
func TestSlowFollower(t *testing.T) {
	s := newSource(t, func(c *HubConfig) { c.Patience = 50 * time.Millisecond; c.RingBytes = 64 << 10 })
	c, err := net.Dial("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write(appendHello(nil, hello{version: Version, name: "slow"}))
	v := registry.NewView()
	stop := run(NewFollower(FollowerConfig{Path: s.path, View: v, Name: "good", Log: quiet}))
	defer stop()
	for deadline := time.Now().Add(20 * time.Second); s.hub.cuts.Load() == 0; {
		s.write(t, 200)
		await(t, v, s.rev)
		if time.Now().After(deadline) {
			t.Fatal("never cut")
		}
	}
	if n := len(s.hub.ring.frames); s.hub.ring.bytes > 64<<10 || n == 0 {
		t.Errorf("ring has %d frames, %d octets", n, s.hub.ring.bytes)
	}
	same(t, s.view, v)
}

func TestAdmission(t *testing.T) {
	me := os.Geteuid()
	for _, c := range []struct {
		name string
		uid  int
		list []int
		want bool
	}{
		{"root", 0, nil, true},
		{"own", me, nil, true},
		{"listed", me + 7, []int{me + 3, me + 7}, true},
		{"stranger", me + 8, []int{me + 7}, false},
		{"nobody listed", me + 8, nil, false},
	} {
		if got := admitted(c.uid, c.list); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if err := admit(a, nil); !errors.Is(err, ErrNotAdmitted) {
		t.Errorf("no Unix socket: %v", err)
	}
	s := newSource(t)
	st, err := os.Stat(s.path)
	if err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("socket has mode %v, %v", st.Mode(), err)
	}
	st, err = os.Stat(filepath.Dir(s.path))
	if err != nil || st.Mode().Perm() != 0o750 {
		t.Errorf("directory has mode %v, %v", st.Mode(), err)
	}
	open := t.TempDir()
	os.Chmod(open, 0o755)
	if _, err := Listen(filepath.Join(open, "relay.sock")); err == nil {
		t.Error("listens where others may enter")
	}
}

// TestLaterVersion has a hub that says more than this version knows.
func TestLaterVersion(t *testing.T) {
	a, b := net.Pipe()
	v := registry.NewView()
	f := NewFollower(FollowerConfig{Dial: func(context.Context) (net.Conn, error) { return b, nil }, View: v, Log: quiet})
	done := make(chan error, 1)
	go func() { done <- f.session(context.Background()) }()
	go io.Copy(io.Discard, a)
	extra := func(b []byte) []byte { return append(b, "and more"...) }
	rec := appendRecord(nil, nodeRecord("n1", 5))
	rec = append(rec, 1, 2, 3, 4) // a field of a later version
	rec[3] += 4
	var out []byte
	out = appendFrame(out, typeWelcome, func(b []byte) []byte {
		return extra(appendString(appendUint(appendUint(appendUint(b, 9), 7), 5), "hub"))
	})
	out = appendFrame(out, Type(200), extra)
	out = appendFrame(out, typeWholeBegin, func(b []byte) []byte {
		return extra(appendUint(appendUint(appendUint(appendUint(b, 7), 5), 0), 2))
	})
	out = appendFrame(out, typeWholePart, func(b []byte) []byte {
		b = append(appendUint(b, 2), rec...)
		b = appendRecord(b, registry.Record{Key: registry.Key{Kind: "later", Node: "x"}, Value: []byte("{}"), Modified: 5})
		return extra(b)
	})
	out = appendFrame(out, typeWholeEnd, func(b []byte) []byte { return extra(appendUint(b, 2)) })
	at := len(out)
	out = appendFrame(out, Type(201), extra)
	out[at] = 99 // a frame that only a later version understands, of a type that we do not know
	fix(out[at:])
	if _, err := a.Write(out); err != nil {
		t.Fatal(err)
	}
	await(t, v, 5)
	if v.Load().Node("n1") == nil || f.Stats().Faults != 0 {
		t.Errorf("%+v", f.Stats())
	}
	newer := appendTick(nil, tick{6, time.Now()})
	newer[0] = Version + 1
	fix(newer)
	a.Write(newer)
	if err := <-done; !errors.Is(err, ErrNewer) {
		t.Errorf("a known type of a newer version: %v", err)
	}
	a.Close()
}

// fix makes the checksum of the one frame in b right again.
func fix(b []byte) {
	sum := checksum(b[:headLen], b[headLen:])
	b[8], b[9], b[10], b[11] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
}

func TestGapAsksForEverything(t *testing.T) {
	a, b := net.Pipe()
	v := registry.NewView()
	v.Apply(registry.Batch{Revision: 5, Whole: true, Records: []registry.Record{nodeRecord("n1", 5)}})
	f := NewFollower(FollowerConfig{Dial: func(context.Context) (net.Conn, error) { return b, nil }, View: v, Log: quiet})
	f.store = 7
	done := make(chan error, 1)
	go func() { done <- f.session(context.Background()) }()
	go io.Copy(io.Discard, a)
	a.Write(appendWelcome(nil, welcome{version: 1, store: 7, revision: 9}))
	a.Write(appendRecords(nil, 8, registry.Batch{Revision: 9, Records: []registry.Record{nodeRecord("n2", 9)}}))
	if err := <-done; !errors.Is(err, errGap) || f.store != 0 || v.Load().Revision != 5 {
		t.Errorf("%v, store %d, revision %d", err, f.store, v.Load().Revision)
	}
	a.Close()
}

func TestFrameBounds(t *testing.T) {
	good := appendTick(nil, tick{1, time.Unix(1, 0)})
	for name, c := range map[string]struct {
		in   []byte
		want error
	}{
		"sound":         {good, nil},
		"cut head":      {good[:headLen-1], io.ErrUnexpectedEOF},
		"cut payload":   {good[:len(good)-1], io.ErrUnexpectedEOF},
		"nothing":       {nil, io.EOF},
		"huge length":   {append([]byte{1, byte(typeTick), 0, 0, 0xff, 0xff, 0xff, 0xff}, good[8:]...), ErrDamaged},
		"large, no end": {append([]byte{1, byte(typeTick), 0, 0, 3, 0, 0, 0}, good[8:]...), io.ErrUnexpectedEOF},
	} {
		r := newReader(bytes.NewReader(c.in), MaxPayload)
		if _, _, err := r.next(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if cap(r.buf) > 2*growBy {
			t.Errorf("%s: %d octets were allocated", name, cap(r.buf))
		}
	}
	for i := range 8 * len(good) {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if _, _, err := newReader(bytes.NewReader(bad), MaxPayload).next(); err == nil {
			t.Errorf("bit %d flipped and not seen", i)
		}
	}
}

func FuzzPayloads(f *testing.F) {
	rec := []registry.Record{nodeRecord("n", 3), {Key: registry.NodeKey("x"), Modified: 9}}
	for _, b := range [][]byte{
		appendHello(nil, hello{1, 2, 3, "me"}), appendWelcome(nil, welcome{1, 2, 3, "me"}),
		appendBegin(nil, begin{1, 2, 3, 4}), appendRecords(nil, 4, registry.Batch{Revision: 5, Records: rec}),
	} {
		f.Add(b[headLen:])
	}
	part, _ := appendPart(nil, rec, 1)
	f.Add(part[headLen:])
	f.Fuzz(func(t *testing.T, b []byte) {
		parseHello(b)
		parseWelcome(b)
		parseBegin(b)
		parseTick(b)
		parseNumber(b)
		parsePart(b, nil)
		previous, batch, err := parseRecords(b)
		if err != nil {
			return
		}
		if len(batch.Records) > len(b)/minRecord {
			t.Fatalf("%d records out of %d octets", len(batch.Records), len(b))
		}
		again := appendRecords(nil, previous, batch)
		p2, b2, err := parseRecords(again[headLen:])
		if err != nil || p2 != previous || !cmp.Equal(batch, b2) {
			t.Fatalf("%v: %s", err, cmp.Diff(batch, b2))
		}
	})
}

func FuzzFrames(f *testing.F) {
	f.Add(appendTick(appendHello(nil, hello{1, 2, 3, "me"}), tick{1, time.Unix(0, 0)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newReader(bytes.NewReader(b), 1<<20)
		for {
			_, p, err := r.next()
			if err != nil {
				break
			}
			if len(p) > len(b) {
				t.Fatal("longer than what came")
			}
		}
		if r.good > int64(len(b)) {
			t.Fatal("counted more than came")
		}
		readFile(bytes.NewReader(b))
	})
}

// TestFaultsAreToldOfAndNotHammered has a hub of a later version behind the socket.
func TestFaultsAreToldOfAndNotHammered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		dials := 0
		dial := func(ctx context.Context) (net.Conn, error) {
			dials++
			a, b := net.Pipe()
			go func() {
				defer a.Close()
				newReader(a, MaxPayload).next()
				out := appendTick(nil, tick{6, time.Now()})
				out[0] = Version + 1
				fix(out)
				a.Write(append(appendWelcome(nil, welcome{version: 9, store: 7, revision: 5}), out...))
			}()
			return b, nil
		}
		f := NewFollower(FollowerConfig{Dial: dial, View: registry.NewView(), Log: slog.New(slog.NewTextHandler(&log, nil))})
		stop := run(f)
		time.Sleep(time.Minute)
		stop()
		if n := strings.Count(log.String(), "newer version"); n != 1 {
			t.Errorf("told %d times:\n%s", n, log.String())
		}
		if dials < 10 || dials > 80 {
			t.Errorf("%d connections in a minute", dials)
		}
	})
}
