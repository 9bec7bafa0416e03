package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resolverd/resolverd/api"
	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/catalog"
	"github.com/resolverd/resolverd/registry/catalog/catalogtest"
)

// direct is an API without a network, for tests of time.
type direct struct {
	t     testing.TB
	store *catalogtest.Store
	cat   *catalog.Catalog
	h     http.Handler
}

func newDirect(t testing.TB, edit ...func(*api.Config)) *direct {
	st := catalogtest.New()
	st.View.Heard(time.Now())
	d := &direct{t: t, store: st, cat: catalog.New(st.View, st, quiet, time.Now)}
	cfg := api.Config{Catalog: d.cat, View: st.View, Node: "n1"}
	for _, e := range edit {
		e(&cfg)
	}
	d.h = api.New(cfg)
	h, _ := registry.ParseHost("10.0.0.1")
	if _, err := d.cat.Register(t.Context(), catalog.Actor{}, catalog.Registration{Node: &registry.Node{Name: "n1", Address: h}}); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *direct) do(ctx context.Context, method, path string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(ctx, method, "http://localhost"+path, nil)
	w := httptest.NewRecorder()
	d.h.ServeHTTP(w, r)
	return w
}

func (d *direct) register(id, service string, port uint16) {
	d.t.Helper()
	if _, err := d.cat.Register(d.t.Context(), catalog.Actor{Owner: registry.OwnerAPI}, catalog.Registration{
		Instance: &registry.Instance{Node: "n1", ID: id, Service: service, Port: port, Weights: registry.DefaultWeights},
	}); err != nil {
		d.t.Fatal(err)
	}
}

func index(w *httptest.ResponseRecorder) uint64 {
	n, _ := strconv.ParseUint(w.Header().Get("X-Consul-Index"), 10, 64)
	return n
}

// TestBlocking: what a query waits for, and that it waits for nothing else.
func TestBlocking(t *testing.T) {
	for name, c := range map[string]struct {
		path  string
		other func(*direct) // must not end the wait
		own   func(*direct) // must end it
	}{
		"health of a service": {
			"/v1/health/service/web",
			func(d *direct) { d.register("db1", "db", 2) },
			func(d *direct) { d.register("web1", "web", 81) },
		},
		"a service that is not there": {
			"/v1/health/service/new",
			func(d *direct) { d.register("db1", "db", 2) },
			func(d *direct) { d.register("new1", "NEW", 81) },
		},
		"a check's status": {
			"/v1/health/service/web",
			func(d *direct) { d.register("db1", "db", 2) },
			func(d *direct) { _, _ = d.cat.SetMaintenance(d.t.Context(), catalog.Actor{}, "n1", "web1", true, "") },
		},
		"a service that goes": {
			"/v1/catalog/service/web",
			func(d *direct) { d.register("db1", "db", 2) },
			func(d *direct) { _, _ = d.cat.Deregister(d.t.Context(), catalog.Actor{}, "n1", "web1") },
		},
		"the list of services": {
			"/v1/catalog/services",
			func(d *direct) { d.register("web1", "web", 99) },
			func(d *direct) { d.register("x", "x", 1) },
		},
		"nodes": {
			"/v1/catalog/nodes",
			func(d *direct) { d.register("web1", "web", 99) },
			func(d *direct) {
				h, _ := registry.ParseHost("10.0.0.2")
				_, _ = d.cat.Register(d.t.Context(), catalog.Actor{}, catalog.Registration{Node: &registry.Node{Name: "n2", Address: h}})
			},
		},
		"a node": {
			"/v1/catalog/node/n1",
			func(*direct) {},
			func(d *direct) { d.register("x", "x", 1) },
		},
		"checks": {
			"/v1/health/state/any",
			func(d *direct) { d.register("x", "x", 1) },
			func(d *direct) {
				_, _ = d.cat.RegisterCheck(d.t.Context(), catalog.Actor{}, &registry.Check{Node: "n1", ID: "disk"})
			},
		},
		"our instances": {
			"/v1/resolverd/instances?service=web",
			func(d *direct) { d.register("x", "x", 1) },
			func(d *direct) { d.register("web2", "web", 1) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDirect(t)
				d.register("web1", "web", 80)
				first := d.do(t.Context(), "GET", c.path)
				if first.Code != 200 || index(first) < 1 {
					t.Fatalf("%d, index %d", first.Code, index(first))
				}
				sep := "?"
				for _, r := range c.path {
					if r == '?' {
						sep = "&"
					}
				}
				got := make(chan *httptest.ResponseRecorder, 1)
				go func() {
					got <- d.do(t.Context(), "GET", fmt.Sprintf("%s%sindex=%d&wait=60s", c.path, sep, index(first)))
				}()
				synctest.Wait()
				c.other(d)
				synctest.Wait()
				select {
				case w := <-got:
					t.Fatalf("something else ended the wait: %s", w.Body)
				default:
				}
				began := time.Now()
				c.own(d)
				w := <-got
				if time.Since(began) != 0 || index(w) <= index(first) || w.Body.String() == first.Body.String() {
					t.Fatalf("after %v, index %d -> %d: %s", time.Since(began), index(first), index(w), w.Body)
				}
			})
		})
	}
}

func TestBlockingEndsInTime(t *testing.T) {
	for wait, want := range map[string]time.Duration{"": 5 * time.Minute, "10s": 10 * time.Second, "60000ms": time.Minute, "2h": 10 * time.Minute, "0s": 5 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			d := newDirect(t)
			d.register("web1", "web", 80)
			n := index(d.do(t.Context(), "GET", "/v1/health/service/web"))
			began := time.Now()
			w := d.do(t.Context(), "GET", fmt.Sprintf("/v1/health/service/web?index=%d&wait=%s", n, wait))
			if took := time.Since(began); w.Code != 200 || index(w) != n || took < want || took > want+want/16 {
				t.Errorf("wait %q: %d after %v, index %d", wait, w.Code, took, index(w))
			}
		})
	}
}

func TestBlockingThatNeedNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDirect(t)
		d.register("web1", "web", 80)
		for _, q := range []string{"", "?index=0", "?index=1", "?index=999999"} { // the last: the store was restored
			began := time.Now()
			if w := d.do(t.Context(), "GET", "/v1/health/service/web"+q); w.Code != 200 || time.Since(began) != 0 {
				t.Errorf("%s: %d after %v", q, w.Code, time.Since(began))
			}
		}
	})
}

func TestFaultsAreToldBeforeTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDirect(t)
		n := index(d.do(t.Context(), "GET", "/v1/health/service/web"))
		for _, q := range []string{"filter=(", "node-meta=x", "stale&consistent"} {
			began := time.Now()
			if w := d.do(t.Context(), "GET", fmt.Sprintf("/v1/health/service/web?index=%d&%s", n, q)); w.Code != 400 || time.Since(began) != 0 {
				t.Errorf("%s: %d after %v", q, w.Code, time.Since(began))
			}
		}
	})
}

func TestStoreInTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDirect(t)
		for name, c := range map[string]struct {
			err  error
			code int
		}{
			"conflicts without end": {registry.ErrConflict, 503},
			"no quorum":             {context.DeadlineExceeded, 503},
			"disk full":             {errors.New("store: the database has reached its quota"), 500},
		} {
			d.store.Before = func(registry.Change) error { return c.err }
			if w := d.do(t.Context(), "PUT", "/v1/agent/maintenance?enable=true"); w.Code != c.code || w.Body.Len() < 10 {
				t.Errorf("%s: %d %s", name, w.Code, w.Body)
			}
		}
	})
}

func TestBlockingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDirect(t, func(c *api.Config) { c.MaxBlocking = 2 })
		d.register("web1", "web", 80)
		q := fmt.Sprintf("/v1/health/service/web?index=%d&wait=1m", index(d.do(t.Context(), "GET", "/v1/health/service/web")))
		codes := make(chan int, 3)
		for range 3 {
			go func() { codes <- d.do(t.Context(), "GET", q).Code }()
			synctest.Wait()
		}
		if c := <-codes; c != http.StatusTooManyRequests {
			t.Fatalf("the third: %d", c)
		}
		d.register("web1", "web", 81)
		if a, b := <-codes, <-codes; a != 200 || b != 200 {
			t.Fatal(a, b)
		}
		if w := d.do(t.Context(), "GET", "/v1/health/service/web?index=1"); w.Code != 200 {
			t.Fatal("a query that need not wait was refused")
		}
	})
}

func TestBlockingEndsWithItsClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDirect(t)
		n := index(d.do(t.Context(), "GET", "/v1/health/service/web"))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { d.do(ctx, "GET", fmt.Sprintf("/v1/health/service/web?index=%d", n)); close(done) }()
		synctest.Wait()
		cancel()
		began := time.Now()
		<-done
		if time.Since(began) != 0 {
			t.Fatal("went on waiting")
		}
	})
}

func TestHashBlocking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDirect(t)
		d.register("web1", "web", 80)
		hash := d.do(t.Context(), "GET", "/v1/agent/service/web1").Header().Get("X-Consul-ContentHash")
		q := "/v1/agent/service/web1?wait=10s&hash=" + hash
		began := time.Now()
		if w := d.do(t.Context(), "GET", q); w.Header().Get("X-Consul-ContentHash") != hash || time.Since(began) < 10*time.Second {
			t.Fatalf("after %v", time.Since(began))
		}
		got := make(chan string)
		go func() { got <- d.do(t.Context(), "GET", q).Header().Get("X-Consul-ContentHash") }()
		synctest.Wait()
		d.register("x", "x", 1)
		synctest.Wait()
		d.register("web1", "web", 81)
		if h := <-got; h == hash || h == "" {
			t.Fatalf("hash %q", h)
		}
	})
}

func TestMetaHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDirect(t)
		for _, s := range []struct {
			after  time.Duration
			leader string
			age    string
		}{{0, "true", "0"}, {10 * time.Second, "true", "10000"}, {time.Minute, "false", "70000"}} {
			time.Sleep(s.after)
			h := d.do(t.Context(), "GET", "/v1/catalog/nodes").Header()
			if h.Get("X-Consul-KnownLeader") != s.leader || h.Get("X-Consul-LastContact") != s.age || h.Get("Content-Type") != "application/json" {
				t.Errorf("after %v: %v", s.after, h)
			}
		}
		if w := d.do(t.Context(), "GET", "/v1/status/leader"); w.Body.String() != "\"\"\n" {
			t.Errorf("a leader that was not heard of for a minute: %s", w.Body)
		}
		v := registry.NewView()
		h := api.New(api.Config{Catalog: d.cat, View: v, Node: "n1"})
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost/v1/catalog/nodes", nil))
		if w.Code != 500 || w.Body.String() != "No cluster leader\n" {
			t.Errorf("before the view is loaded: %d %s", w.Code, w.Body)
		}
	})
}
