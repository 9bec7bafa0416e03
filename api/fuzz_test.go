package api_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/resolverd/resolverd/registry"
)

// FuzzBodies: whatever is sent, the answer is one of the few that are right for it, and
// what was taken can be read back.
func FuzzBodies(f *testing.F) {
	for _, s := range []string{
		`{"Name":"web","Port":80,"Check":{"TTL":"10s"}}`,
		`{"name":"web","checks":[{"http":"http://x/","interval":5},{"args":["a"]}],"weights":{"passing":0}}`,
		`{"Node":"n","Address":"10.0.0.1","Service":{"Service":"x"},"Check":{"Name":"c","ServiceID":"x","Status":"passing"}}`,
		`{"Name":"web","TaggedAddresses":{"a":{"Address":"::1"}},"Ports":[{"Name":"p","Port":1,"Default":true}]}`,
		`{"Status":"passing","Output":"x"}`, `{"Name":`, `[]`, `null`, "{\"Name\":\"\xff\"}",
	} {
		for n := range 5 {
			f.Add(uint8(n), s)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, body string) {
		d := newDirect(t)
		_, _ = d.cat.RegisterCheck(t.Context(), actorForFuzz, &registry.Check{Node: "n1", ID: "k"})
		path := []string{
			"/v1/agent/service/register", "/v1/agent/check/register", "/v1/agent/check/update/k",
			"/v1/catalog/register", "/v1/catalog/deregister",
		}[which%5]
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPut, "http://localhost"+path, strings.NewReader(body))
		w := httptest.NewRecorder()
		d.h.ServeHTTP(w, r)
		switch w.Code {
		case 200, 400, 403, 404, 409, 413:
		case 500:
			if !strings.HasPrefix(w.Body.String(), "No path to datacenter") {
				t.Fatalf("%s: 500 %s", path, w.Body)
			}
		default:
			t.Fatalf("%s: %d %s", path, w.Code, w.Body)
		}
		if w.Body.Len() > 64<<10 {
			t.Fatalf("%d octets of reply", w.Body.Len())
		}
		fresh := registry.NewView()
		if err := fresh.Apply(d.store.View.Records()); err != nil {
			t.Fatalf("%s: what was stored cannot be read: %v", path, err)
		}
		for _, p := range []string{"/v1/health/state/any", "/v1/catalog/services", "/v1/resolverd/instances", "/v1/agent/services"} {
			if w := d.do(t.Context(), "GET", p); w.Code != 200 {
				t.Fatalf("%s then: %d %s", p, w.Code, w.Body)
			}
		}
	})
}

// FuzzFilter: an expression is taken or refused, and never ends the process.
func FuzzFilter(f *testing.F) {
	for _, s := range []string{`Service.ID == "w"`, `"a" in Service.Tags`, `any Checks as c { c.Status == "x" }`, `Service.Meta["a"] matches "("`, `((((`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		d := newDirect(t)
		d.register("w", "web", 80)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/v1/health/service/web", nil)
		q := r.URL.Query()
		q.Set("filter", expr)
		r.URL.RawQuery = q.Encode()
		w := httptest.NewRecorder()
		d.h.ServeHTTP(w, r)
		if w.Code != 200 && w.Code != 400 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	})
}
