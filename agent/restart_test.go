package agent_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/resolverd/resolverd/registry"
)

// TestViewEqualsTheLogAfterRestarts stops the agent again and again under writes. The
// view of an answerer that lived through it must be that of one that starts fresh, and
// hold all that was acknowledged.
func TestViewEqualsTheLogAfterRestarts(t *testing.T) {
	cfg := config(t.TempDir())
	old := follow(t, cfg)
	var mu sync.Mutex
	acked := map[string]bool{} // id -> there; missing where it is not known
	for round := range 4 {
		a := start(t, cfg)
		var wg sync.WaitGroup
		enough := make(chan struct{})
		var once sync.Once
		for w := range 6 {
			wg.Go(func() {
				client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
				for i := range 60 {
					if i == 30 {
						once.Do(func() { close(enough) })
					}
					id := fmt.Sprintf("w%d-%d", w, rand.IntN(20))
					path, body, there := "/v1/agent/service/register", fmt.Sprintf(`{"Name": "svc%d", "ID": %q, "Port": %d}`, w, id, 1000*round+i+1), true
					if rand.IntN(4) == 0 {
						path, body, there = "/v1/agent/service/deregister/"+id, "", false
					}
					mu.Lock()
					delete(acked, id)
					mu.Unlock()
					req, err := http.NewRequest(http.MethodPut, fmt.Sprint("http://", a.api, path), strings.NewReader(body))
					if err != nil {
						t.Error(err)
						return
					}
					res, err := client.Do(req)
					if err != nil {
						return // the agent stopped
					}
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
					if res.StatusCode == http.StatusOK || !there && res.StatusCode == http.StatusNotFound {
						mu.Lock()
						acked[id] = there
						mu.Unlock()
					}
				}
			})
		}
		<-enough
		if err := a.stop(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
	}
	start(t, cfg)
	fresh := following(t, cfg)
	rev := fresh.Load().Revision
	await(t, old, fmt.Sprint("revision ", rev), func(s *registry.Snapshot) bool { return s.Revision >= rev })
	await(t, fresh, "the other's revision", func(s *registry.Snapshot) bool { return s.Revision >= old.Load().Revision })
	for {
		rev := old.Load().Revision
		diff := cmp.Diff(records(old), records(fresh))
		if diff == "" {
			break
		}
		if old.Load().Revision == rev && fresh.Load().Revision == rev {
			t.Fatalf("the old view and a fresh one differ: %s", diff)
		}
		// The agent wrote meanwhile, that it is alive: one had it, the other not yet.
		await(t, old, "the fresh one's revision", func(s *registry.Snapshot) bool { return s.Revision >= fresh.Load().Revision })
		await(t, fresh, "the other's revision", func(s *registry.Snapshot) bool { return s.Revision >= old.Load().Revision })
	}
	for id, there := range acked {
		if got := fresh.Load().Instance(cfg.Node, id) != nil; got != there {
			t.Errorf("%s: acknowledged as there: %v, is there: %v", id, there, got)
		}
	}
	if len(acked) < 50 {
		t.Errorf("only %d ids are known", len(acked))
	}
}

func records(v *registry.View) map[string]string {
	m := map[string]string{}
	for _, r := range v.Records().Records {
		m[r.Key.String()] = fmt.Sprint(r.Created, r.Modified, string(r.Value))
	}
	return m
}
