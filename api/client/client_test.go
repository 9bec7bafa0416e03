package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/resolverd/resolverd/api"
	"github.com/resolverd/resolverd/api/client"
	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/catalog"
	"github.com/resolverd/resolverd/registry/catalog/catalogtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type bench struct {
	*client.Client
	cat *catalog.Catalog
	srv *httptest.Server
}

func newBench(t *testing.T, token string) *bench {
	t.Helper()
	st := catalogtest.New()
	st.View.Heard(time.Now())
	cat := catalog.New(st.View, st, slog.New(slog.DiscardHandler), time.Now)
	h, _ := registry.ParseHost("10.0.0.1")
	if _, err := cat.Register(t.Context(), catalog.Actor{Name: "test"}, catalog.Registration{Node: &registry.Node{Name: "n1", Address: h}}); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(api.New(api.Config{Catalog: cat, View: st.View, Node: "n1", Version: "1.2.3", Token: token, AllowScripts: token != ""}))
	t.Cleanup(srv.Close)
	c, err := client.New(client.Config{Address: srv.Listener.Addr().String(), Token: token})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &bench{c, cat, srv}
}

func host(s string) registry.Host {
	h, err := registry.ParseHost(s)
	if err != nil {
		panic(err)
	}
	return h
}

// TestRegisterCarriesEverything: what goes through the API comes out as it went in.
func TestRegisterCarriesEverything(t *testing.T) {
	b := newBench(t, "secret")
	i := &registry.Instance{
		Node: "n1", ID: "web/1 ä", Service: "web", Tags: []string{"a", "b"}, Meta: map[string]string{"k": "v"},
		Address: host("10.0.0.9"), Port: 80, Ports: []registry.NamedPort{{Name: "admin", Port: 81}},
		Networks: map[string]registry.Endpoint{"wan": {Address: host("192.0.2.1"), Port: 82}},
		Weights:  registry.Weights{Passing: 10, Warning: 0}, Priority: 3, Zone: "z", Drain: true,
		EnableTagOverride: true, Owner: registry.OwnerAPI,
	}
	s := func(n int) registry.Duration { return registry.Duration(time.Duration(n) * time.Second) }
	defs := []*registry.CheckDefinition{
		{Kind: registry.CheckHTTP, URL: "https://h/", Method: "PUT", Body: "x", Header: map[string][]string{"A": {"b"}}, NoRedirects: true, TLSServerName: "n", TLSSkipVerify: true, Interval: s(5), Timeout: s(1), SuccessBeforePassing: 1, FailuresBeforeWarning: 2, FailuresBeforeCritical: 3, DeregisterCriticalAfter: s(60)},
		{Kind: registry.CheckTCP, Target: "h:1", TLS: true},
		{Kind: registry.CheckUDP, Target: "h:1", Body: "ping"},
		{Kind: registry.CheckGRPC, Target: "h:1/s", TLS: true},
		{Kind: registry.CheckTTL, TTL: s(30)},
		{Kind: registry.CheckScript, Args: []string{"/bin/x"}, WarningIsCritical: true},
		{Kind: registry.CheckAlias, AliasInstance: "db", AliasNode: "n2"},
	}
	var checks []*registry.Check
	for _, d := range defs {
		checks = append(checks, &registry.Check{Node: "n1", ID: "c-" + string(d.Kind), Name: "n", Notes: "o", InstanceID: i.ID, Status: registry.Warning, Ran: true, Definition: d})
	}
	for n, want := range []bool{true, false} {
		if r, err := b.Register(t.Context(), i, checks); err != nil || r.Changed != want || r.Revision == 0 {
			t.Fatalf("registration %d: %+v %v", n, r, err)
		}
	}
	list, err := b.Instances(t.Context(), client.Query{Service: "web"})
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if diff := cmp.Diff(*i, list[0].Instance, cmp.Comparer(func(a, b registry.Host) bool { return a == b })); diff != "" {
		t.Fatal(diff)
	}
	got := map[string]*registry.Check{}
	for _, k := range list[0].Checks {
		got[k.ID] = k
	}
	for _, k := range checks {
		if diff := cmp.Diff(k, got[k.ID]); diff != "" {
			t.Fatal(diff)
		}
	}
	if r, err := b.Deregister(t.Context(), "", i.ID); err != nil || !r.Changed {
		t.Fatal(r, err)
	}
}

func TestVerbs(t *testing.T) {
	b := newBench(t, "")
	ctx := t.Context()
	if _, err := b.Register(ctx, &registry.Instance{Service: "web"}, nil); err != nil {
		t.Fatal(err)
	}
	state := func() string {
		t.Helper()
		l, err := b.Instances(ctx, client.Query{Node: "n1"})
		if err != nil || len(l) != 1 {
			t.Fatal(l, err)
		}
		return l[0].State
	}
	for _, s := range []struct {
		do   func() (client.Result, error)
		want string
	}{
		{func() (client.Result, error) { return b.Maintenance(ctx, "", "web", true, "why not") }, "maintenance"},
		{func() (client.Result, error) { return b.Maintenance(ctx, "", "web", false, "") }, "up"},
		{func() (client.Result, error) { return b.Maintenance(ctx, "n1", "", true, "") }, "maintenance"},
		{func() (client.Result, error) { return b.Maintenance(ctx, "", "", false, "") }, "up"},
		{func() (client.Result, error) { return b.Drain(ctx, "", "web", true, "deploy") }, "draining"},
		{func() (client.Result, error) { return b.Drain(ctx, "n1", "", false, "") }, "up"},
	} {
		for _, changed := range []bool{true, false} {
			if r, err := s.do(); err != nil || r.Changed != changed {
				t.Fatalf("%s: %+v %v", s.want, r, err)
			}
		}
		if got := state(); got != s.want {
			t.Fatalf("state %s, want %s", got, s.want)
		}
	}
	ev, err := b.History(ctx, registry.HistoryQuery{Name: "web", Since: time.Now().Add(-time.Hour), Limit: 2})
	if err != nil || len(ev) != 2 || ev[1].Reason != "deploy" {
		t.Fatal(ev, err)
	}
	if s, err := b.Services(ctx); err != nil || len(s) != 1 {
		t.Fatal(s, err)
	}
	if n, err := b.Nodes(ctx); err != nil || len(n) != 1 || n[0].Name != "n1" || n[0].Instances != 1 || !n[0].Alive {
		t.Fatal(n, err)
	}
	if s, err := b.Status(ctx); err != nil || s.Version != "1.2.3" || s.AgeSeconds == nil {
		t.Fatal(s, err)
	}
	if _, err := b.cat.Register(ctx, catalog.Actor{Owner: registry.OwnerFile}, catalog.Registration{
		Instance: &registry.Instance{Node: "n1", ID: "f", Service: "f"}, Definition: "d",
	}); err != nil {
		t.Fatal(err)
	}
	if r, err := b.Deregister(ctx, "", "f"); err != nil || r.Tombstone != "file" {
		t.Fatal(r, err)
	}
	if r, err := b.Deregister(ctx, "n1", "none"); err != nil || r.Changed {
		t.Fatal(r, err)
	}
	if r, err := b.DeregisterNode(ctx, "n1"); err != nil || !r.Changed {
		t.Fatal(r, err)
	}
}

func TestErrors(t *testing.T) {
	b := newBench(t, "secret")
	_, err := b.Register(t.Context(), &registry.Instance{}, nil)
	if client.Status(err) != 400 || !strings.Contains(err.Error(), "Name") {
		t.Errorf("bad input: %v", err)
	}
	_, err = b.Deregister(t.Context(), "", "none")
	if client.Status(err) != 404 {
		t.Errorf("not there: %v", err)
	}
	wrong, _ := client.New(client.Config{Address: b.srv.URL, Token: "wrong"})
	defer wrong.Close()
	if _, err := wrong.Nodes(t.Context()); client.Status(err) != 403 || !strings.Contains(err.Error(), "token") {
		t.Errorf("wrong token: %v", err)
	}
	gone, _ := client.New(client.Config{Address: "127.0.0.1:1", Token: "secret"})
	defer gone.Close()
	if _, err := gone.Nodes(t.Context()); !errors.Is(err, client.ErrUnreachable) || client.Status(err) != 0 || strings.Contains(err.Error(), "secret") {
		t.Errorf("nobody there: %v", err)
	}
	for _, a := range []string{"ftp://x", "http://", ":::"} {
		if _, err := client.New(client.Config{Address: a}); err == nil {
			t.Errorf("address %q was taken", a)
		}
	}
	for name, h := range map[string]http.Handler{
		"a page for what is not found": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html;charset=utf-8")
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, "<html>nothing</html>")
		}),
		"a page for everything": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>hi</html>") }),
	} {
		other := httptest.NewServer(h)
		c, _ := client.New(client.Config{Address: other.URL})
		if _, err := c.Nodes(t.Context()); !errors.Is(err, client.ErrOther) || !errors.Is(err, client.ErrUnreachable) || strings.Contains(err.Error(), "<") {
			t.Errorf("%s: %v", name, err)
		}
		c.Close()
		other.Close()
	}
	moved := httptest.NewServer(http.RedirectHandler(b.srv.URL, http.StatusFound))
	defer moved.Close()
	away, _ := client.New(client.Config{Address: moved.URL, Token: "secret"})
	defer away.Close()
	if _, err := away.Nodes(t.Context()); client.Status(err) != 302 {
		t.Errorf("a redirect was followed: %v", err)
	}
}

func TestWatch(t *testing.T) {
	b := newBench(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var seen []int
	err := b.Watch(ctx, client.Query{Service: "web"}, func(l []api.Instance) error {
		seen = append(seen, len(l))
		if len(l) == 2 {
			cancel()
			return nil
		}
		go b.Register(context.Background(), &registry.Instance{ID: string(rune('a' + len(l))), Service: "web"}, nil)
		return nil
	}, nil)
	if diff := cmp.Diff([]int{0, 1, 2}, seen); err != nil || diff != "" {
		t.Fatal(err, diff)
	}
	stop := errors.New("stop")
	if err := b.Watch(t.Context(), client.Query{}, func([]api.Instance) error { return stop }, nil); !errors.Is(err, stop) {
		t.Fatal(err)
	}
}

func TestWatchOutlastsARestart(t *testing.T) {
	b := newBench(t, "")
	down := true
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down {
			down = false
			http.Error(w, "starting", http.StatusServiceUnavailable)
			return
		}
		r.Host = "localhost"
		b.srv.Config.Handler.ServeHTTP(w, r)
	}))
	defer front.Close()
	c, _ := client.New(client.Config{Address: front.URL})
	defer c.Close()
	lost := 0
	stop := errors.New("stop")
	if err := c.Watch(t.Context(), client.Query{}, func([]api.Instance) error { return stop }, func(error) { lost++ }); !errors.Is(err, stop) || lost != 1 {
		t.Fatal(err, lost)
	}
}
