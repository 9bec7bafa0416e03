package api_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/resolverd/resolverd/api"
	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/catalog"
	"github.com/resolverd/resolverd/registry/catalog/catalogtest"
)

// bench is an API on a store in memory, with its own node n1 registered.
type bench struct {
	t     testing.TB
	store *catalogtest.Store
	cat   *catalog.Catalog
	srv   *httptest.Server
}

func newBench(t testing.TB, edit ...func(*api.Config)) *bench {
	t.Helper()
	st := catalogtest.New()
	st.View.Heard(time.Now())
	b := &bench{t: t, store: st, cat: catalog.New(st.View, st, quiet, time.Now)}
	b.node("n1", "10.0.0.1", nil)
	cfg := api.Config{Catalog: b.cat, View: st.View, Node: "n1", NodeID: "6f3c7d0a-0000-4000-8000-000000000001", Datacenter: "dc1", Version: "1.0.0"}
	for _, e := range edit {
		e(&cfg)
	}
	b.srv = httptest.NewServer(api.New(cfg))
	t.Cleanup(b.srv.Close)
	return b
}

func (b *bench) node(name, addr string, meta map[string]string) {
	b.t.Helper()
	h, err := registry.ParseHost(addr)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.cat.Register(context.Background(), catalog.Actor{Owner: registry.OwnerAPI, Name: "test"},
		catalog.Registration{Node: &registry.Node{Name: name, Address: h, Meta: meta}}); err != nil {
		b.t.Fatal(err)
	}
}

type answer struct {
	code   int
	body   string
	header http.Header
}

// ask sends a request; header lines are "Name: value".
func (b *bench) ask(method, path, body string, header ...string) answer {
	b.t.Helper()
	req, err := http.NewRequest(method, b.srv.URL+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	for _, h := range header {
		k, v, _ := strings.Cut(h, ": ")
		if k == "Host" {
			req.Host = v
		} else {
			req.Header.Set(k, v)
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer{resp.StatusCode, string(all), resp.Header}
}

func (b *bench) put(path, body string) answer {
	b.t.Helper()
	return b.ask(http.MethodPut, path, body)
}

func (b *bench) get(path string) answer {
	b.t.Helper()
	return b.ask(http.MethodGet, path, "")
}

// mustPut fails the test where the reply is no 200.
func (b *bench) mustPut(path, body string) answer {
	b.t.Helper()
	a := b.put(path, body)
	if a.code != http.StatusOK {
		b.t.Fatalf("PUT %s: %d %s", path, a.code, a.body)
	}
	return a
}
