package registry_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/resolverd/resolverd/registry"
)

func host(t testing.TB, s string) registry.Host {
	t.Helper()
	h, err := registry.ParseHost(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func record(k registry.Key, part any, rev uint64) registry.Record {
	return registry.Record{Key: k, Value: registry.Encode(part), Created: rev, Modified: rev}
}

func node(t testing.TB, name, addr string, rev uint64) registry.Record {
	return record(registry.NodeKey(name), &registry.Node{Name: name, Address: host(t, addr)}, rev)
}

func instance(n, id, service string, rev uint64, edit ...func(*registry.Instance)) registry.Record {
	i := &registry.Instance{Node: n, ID: id, Service: service, Port: 80, Weights: registry.DefaultWeights, Owner: registry.OwnerAPI}
	for _, e := range edit {
		e(i)
	}
	return record(registry.InstanceRecordKey(n, id), i, rev)
}

func check(n, id, of string, s registry.Status, rev uint64) registry.Record {
	return record(registry.CheckKey(n, id), &registry.Check{Node: n, ID: id, InstanceID: of, Status: s, Ran: true}, rev)
}

func gone(k registry.Key, rev uint64) registry.Record { return registry.Record{Key: k, Modified: rev} }

func apply(t testing.TB, v *registry.View, rev uint64, rs ...registry.Record) {
	t.Helper()
	if err := v.Apply(registry.Batch{Revision: rev, Records: rs}); err != nil {
		t.Fatal(err)
	}
}

func states(s *registry.Service) []string {
	if s == nil {
		return nil
	}
	var out []string
	for _, i := range s.Instances {
		out = append(out, i.Node+"/"+i.ID+"="+i.State.String())
	}
	return out
}

func TestViewJoinsWhateverTheOrder(t *testing.T) {
	rs := []registry.Record{
		node(t, "n1", "10.0.0.1", 1), instance("n1", "web1", "Web", 1), instance("n1", "web2", "web", 1),
		check("n1", "c1", "web1", registry.Warning, 1), check("n1", "c2", "web2", registry.Passing, 1),
	}
	for range 20 {
		rand.Shuffle(len(rs), func(i, j int) { rs[i], rs[j] = rs[j], rs[i] })
		v := registry.NewView()
		for n, r := range rs {
			apply(t, v, uint64(n+1), r)
		}
		got := states(v.Load().Service("WEB"))
		if diff := cmp.Diff([]string{"n1/web1=warning", "n1/web2=up"}, got); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestViewStates(t *testing.T) {
	v := registry.NewView()
	apply(t, v, 1, node(t, "n1", "10.0.0.1", 1), instance("n1", "a", "web", 1), instance("n1", "b", "web", 1))
	steps := []struct {
		name string
		rec  registry.Record
		want []string
	}{
		{"own check critical", check("n1", "c", "a", registry.Critical, 2), []string{"n1/a=critical", "n1/b=up"}},
		{"node check warns", check("n1", "n", "", registry.Warning, 3), []string{"n1/a=critical", "n1/b=warning"}},
		{"own check passes", check("n1", "c", "a", registry.Passing, 4), []string{"n1/a=warning", "n1/b=warning"}},
		{"node check gone", gone(registry.CheckKey("n1", "n"), 5), []string{"n1/a=up", "n1/b=up"}},
		{"node maintenance", check("n1", registry.NodeMaintenance, "", registry.Critical, 6), []string{"n1/a=maintenance", "n1/b=maintenance"}},
		{"maintenance over", gone(registry.CheckKey("n1", registry.NodeMaintenance), 7), []string{"n1/a=up", "n1/b=up"}},
		{"drain", instance("n1", "a", "web", 8, func(i *registry.Instance) { i.Drain = true }), []string{"n1/a=draining", "n1/b=up"}},
		{"gone", gone(registry.InstanceRecordKey("n1", "a"), 9), []string{"n1/b=up"}},
		{"node gone", gone(registry.NodeKey("n1"), 10), nil},
		{"node back", node(t, "n1", "10.0.0.2", 11), []string{"n1/b=up"}},
	}
	for n, s := range steps {
		apply(t, v, uint64(n+2), s.rec)
		if diff := cmp.Diff(s.want, states(v.Load().Service("web"))); diff != "" {
			t.Fatalf("%s: %s", s.name, diff)
		}
	}
}

func TestEpochsMoveOnlyForWhatDNSSees(t *testing.T) {
	v := registry.NewView()
	apply(t, v, 1, node(t, "n1", "10.0.0.1", 1), instance("n1", "a", "web", 1), instance("n1", "b", "db", 1), check("n1", "c", "a", registry.Passing, 1))
	web, db := v.Load().Service("web").Epoch, v.Load().Service("db").Epoch
	type moved struct{ Web, DB, Names, Addrs, Serial bool }
	steps := []struct {
		name string
		rec  registry.Record
		want moved
	}{
		{"check output", record(registry.CheckKey("n1", "c"), &registry.Check{Node: "n1", ID: "c", InstanceID: "a", Status: registry.Passing, Ran: true, Output: "200 OK"}, 2), moved{}},
		{"check critical", check("n1", "c", "a", registry.Critical, 3), moved{Web: true, Serial: true}},
		{"same registration again", instance("n1", "b", "db", 4), moved{}},
		{"other owner", instance("n1", "b", "db", 5, func(i *registry.Instance) { i.Owner = registry.OwnerFile }), moved{}},
		{"port", instance("n1", "b", "db", 6, func(i *registry.Instance) { i.Port = 81 }), moved{DB: true, Serial: true}},
		{"new service", instance("n1", "x", "new", 7), moved{Names: true, Serial: true}},
		{"new address", instance("n1", "x", "new", 8, func(i *registry.Instance) { i.Address = host(t, "10.1.1.1") }), moved{Addrs: true, Serial: true}},
		{"service gone", gone(registry.InstanceRecordKey("n1", "x"), 9), moved{Names: true, Addrs: true, Serial: true}},
		{"node address", node(t, "n1", "10.0.0.9", 10), moved{Web: true, DB: true, Addrs: true, Serial: true}},
		{"node again", node(t, "n1", "10.0.0.9", 11), moved{}},
		{"tombstone", record(registry.TombstoneKey("n1", "x"), &registry.Tombstone{Node: "n1", ID: "x"}, 12), moved{}},
	}
	for n, s := range steps {
		w, d, nm, ad, se := web.Load(), db.Load(), v.Names.Load(), v.Addrs.Load(), v.Load().Serial
		apply(t, v, uint64(n+2), s.rec)
		got := moved{web.Load() != w, db.Load() != d, v.Names.Load() != nm, v.Addrs.Load() != ad, v.Load().Serial != se}
		if diff := cmp.Diff(s.want, got); diff != "" {
			t.Errorf("%s: %s", s.name, diff)
		}
	}
}

func TestWholeBatchKeepsEpochsOfWhatIsTheSame(t *testing.T) {
	v := registry.NewView()
	rs := []registry.Record{node(t, "n1", "10.0.0.1", 1), instance("n1", "a", "web", 2), instance("n1", "b", "db", 3)}
	apply(t, v, 3, rs...)
	web := v.Load().Service("web").Epoch
	before := web.Load()
	serial := v.Load().Serial
	if err := v.Apply(registry.Batch{Revision: 9, Whole: true, Records: rs}); err != nil {
		t.Fatal(err)
	}
	if web.Load() != before || v.Load().Serial != serial || v.Load().Revision != 9 {
		t.Fatalf("epoch %d -> %d, serial %d -> %d, revision %d", before, web.Load(), serial, v.Load().Serial, v.Load().Revision)
	}
	if err := v.Apply(registry.Batch{Revision: 10, Whole: true, Records: rs[:2]}); err != nil {
		t.Fatal(err)
	}
	if v.Load().Service("db") != nil || v.Load().GoneIndex != 10 {
		t.Fatalf("db is still there, or gone index %d", v.Load().GoneIndex)
	}
}

func TestUses(t *testing.T) {
	v := registry.NewView()
	at := func(i *registry.Instance) { i.Address = host(t, "10.0.0.7") }
	apply(t, v, 1, node(t, "n1", "10.0.0.1", 1), instance("n1", "a", "web", 1, at), instance("n1", "b", "web", 1, at))
	a := netip.MustParseAddr("10.0.0.7")
	if n := len(v.Load().Uses(a)); n != 2 {
		t.Fatalf("%d uses, want 2", n)
	}
	apply(t, v, 2, gone(registry.InstanceRecordKey("n1", "a"), 2))
	apply(t, v, 3, gone(registry.InstanceRecordKey("n1", "b"), 3))
	if u := v.Load().Uses(a); u != nil {
		t.Fatalf("uses left: %v", u)
	}
	if u := v.Load().Uses(netip.MustParseAddr("::ffff:10.0.0.1")); !slices.Equal(u, []registry.AddrUse{{Node: "n1"}}) {
		t.Fatalf("uses of the node: %v", u)
	}
}

func TestInstanceByLabel(t *testing.T) {
	v := registry.NewView()
	apply(t, v, 1, node(t, "n1", "10.0.0.1", 1), node(t, "n2", "10.0.0.2", 1),
		instance("n1", "same", "web", 1), instance("n2", "same", "web", 1), instance("n1", "Only", "web", 1), instance("n1", "not a label", "web", 1))
	s := v.Load().Service("web")
	for _, i := range s.Instances {
		if s.Instance(i.Label) != i {
			t.Errorf("%s/%s is not found by its label", i.Node, i.ID)
		}
	}
	if s.Instance("same") != nil {
		t.Error("an id that two nodes have names one of them")
	}
	if i := s.Instance("oNLY"); i == nil || i.ID != "Only" {
		t.Error("a unique id is no alias")
	}
}

func TestBellsRingOnce(t *testing.T) {
	v := registry.NewView()
	web, done := v.Listen(registry.Topic{Kind: registry.TopicService, Name: "WEB"})
	defer done()
	db, done2 := v.Listen(registry.Topic{Kind: registry.TopicService, Name: "db"})
	defer done2()
	apply(t, v, 1, node(t, "n1", "10.0.0.1", 1), instance("n1", "a", "web", 1))
	select {
	case <-web:
	default:
		t.Error("the bell of a service that appeared did not ring")
	}
	select {
	case <-db:
		t.Error("a bell rang for another service")
	default:
	}
}

func TestBrokenRecordLosesOnlyItself(t *testing.T) {
	v := registry.NewView()
	err := v.Apply(registry.Batch{Revision: 1, Records: []registry.Record{
		node(t, "n1", "10.0.0.1", 1), instance("n1", "a", "web", 1),
		{Key: registry.InstanceRecordKey("n1", "b"), Value: []byte("{"), Modified: 1},
		{Key: registry.Key{Kind: "future", Node: "x"}, Value: []byte("{}"), Modified: 1},
	}})
	if err == nil {
		t.Error("no error for a value that is no JSON")
	}
	if v.Load().Service("web") == nil {
		t.Error("the sound records were lost")
	}
}

func TestKeyRoundTrip(t *testing.T) {
	for _, k := range []registry.Key{registry.NodeKey("N1"), registry.CheckKey("n1", "a/b:c %"), registry.InstanceRecordKey("n/1", "ü"), registry.RoleKey("db")} {
		got, err := registry.ParseKey(k.String())
		if err != nil || got != k {
			t.Errorf("%v: %v %v", k, got, err)
		}
	}
	if _, err := registry.ParseKey("/elsewhere/x"); err == nil {
		t.Error("a foreign key was taken")
	}
}

func TestLabelIsStable(t *testing.T) {
	// Fixed for ever: a label that changed would cut off every cached SRV target.
	for _, n := range []string{"Node1", "node1"} {
		if got := registry.InstanceLabel(n, "web-1"); got != "ilv4d35c6a9dvi" {
			t.Errorf("label of (%s, web-1) is %q", n, got)
		}
	}
}

// TestAgainstRebuild holds the incremental view against one that is built anew from the
// same records, after random changes.
func TestAgainstRebuild(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	v := registry.NewView()
	for rev := uint64(1); rev < 3000; rev++ {
		n := fmt.Sprintf("n%d", r.IntN(5))
		id := fmt.Sprintf("i%d", r.IntN(10))
		var rec registry.Record
		switch r.IntN(6) {
		case 0:
			rec = node(t, n, fmt.Sprintf("10.0.0.%d", 1+r.IntN(5)), rev)
		case 1:
			rec = gone(registry.NodeKey(n), rev)
		case 2, 3:
			rec = instance(n, id, fmt.Sprintf("s%d", r.IntN(4)), rev, func(i *registry.Instance) {
				if r.IntN(2) == 0 {
					i.Address = host(t, fmt.Sprintf("10.1.0.%d", 1+r.IntN(5)))
				}
			})
		case 4:
			of := id
			if r.IntN(4) == 0 {
				of = ""
			}
			rec = check(n, fmt.Sprintf("c%d", r.IntN(10)), of, []registry.Status{registry.Passing, registry.Warning, registry.Critical}[r.IntN(3)], rev)
		case 5:
			rec = gone([]registry.Key{registry.InstanceRecordKey(n, id), registry.CheckKey(n, fmt.Sprintf("c%d", r.IntN(10)))}[r.IntN(2)], rev)
		}
		apply(t, v, rev, rec)
		if rev%100 != 0 {
			continue
		}
		fresh := registry.NewView()
		if err := fresh.Apply(v.Records()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(dump(fresh.Load()), dump(v.Load())); diff != "" {
			t.Fatalf("revision %d: %s", rev, diff)
		}
	}
}

func dump(s *registry.Snapshot) []string {
	var out []string
	for x := range s.Services() {
		out = append(out, fmt.Sprint("service ", registry.Fold(x.Name), states(x)))
	}
	for n := range s.Nodes() {
		var ids []string
		for _, i := range n.Instances {
			ids = append(ids, i.ID)
		}
		out = append(out, fmt.Sprint("node ", n.Name, n.Address, ids, len(n.Checks)))
	}
	for a, u := range s.Addrs() {
		out = append(out, fmt.Sprint("addr ", a, u))
	}
	slices.Sort(out)
	return out
}

func TestSerialNeverGoesBack(t *testing.T) {
	v := registry.NewView()
	rs := []registry.Record{node(t, "n1", "10.0.0.1", 1), instance("n1", "a", "web", 2)}
	whole := func(rev, serial uint64, rs ...registry.Record) {
		t.Helper()
		if err := v.Apply(registry.Batch{Revision: rev, Serial: serial, Whole: true, Records: rs}); err != nil {
			t.Fatal(err)
		}
	}
	is := func(step string, rev, serial uint64) {
		t.Helper()
		if s := v.Load(); s.Revision != rev || s.Serial != serial {
			t.Fatalf("%s: revision %d, serial %d, want %d and %d", step, s.Revision, s.Serial, rev, serial)
		}
	}
	whole(90, 70, rs...)
	is("from disk", 90, 70)
	whole(100, 0, rs...)
	is("nothing new", 100, 70)
	apply(t, v, 101, instance("n1", "b", "web", 101))
	is("written", 101, 101)
	whole(5, 0, rs[0])
	is("a new store", 5, 102)
	apply(t, v, 6, instance("n1", "c", "web", 6))
	is("written there", 6, 103)
	if b := v.Records(); b.Revision != 6 || b.Serial != 103 || len(b.Records) != 2 {
		t.Fatalf("records: %+v", b)
	}
}
