package whole

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestReloadLosesNothing: clients ask without a pause while the Corefile is reloaded; each
// query gets its answer at the first try.
func TestReloadLosesNothing(t *testing.T) {
	p := start(t, plainCorefile)
	p.register(t, nil)
	expect(t, 2*time.Second, "web.service.internal", dns.TypeA, "NOERROR", "10.0.0.1")
	ctx, stop := context.WithCancel(t.Context())
	var asked, lost atomic.Int64
	var wg sync.WaitGroup
	for i := range 6 {
		network := "udp"
		if i == 5 {
			network = "tcp"
		}
		wg.Go(func() {
			for ctx.Err() == nil {
				asked.Add(1)
				r, err := exchange(network, query("web.service.internal", dns.TypeA))
				if err != nil || len(r.Answer) != 1 {
					lost.Add(1)
					t.Errorf("%s: %v %v", network, err, r)
				}
			}
		})
	}
	for range 5 {
		p.cli(t, "reload", "--data-dir", p.data)
	}
	stop()
	wg.Wait()
	t.Logf("%d queries over 5 reloads, %d lost", asked.Load(), lost.Load())
	if asked.Load() < 500 {
		t.Errorf("only %d queries were asked: the test shows nothing", asked.Load())
	}
}

func TestBrokenCorefileIsRefused(t *testing.T) {
	p := start(t, plainCorefile)
	p.register(t, nil)
	write(t, p.corefile, strings.Replace(plainCorefile, "cache 60", "cahce 60", 1))
	out, err := run(t.Context(), p.bin, "reload", "--data-dir", p.data)
	if err == nil {
		t.Fatalf("a broken Corefile was taken:\n%s", out)
	}
	for _, want := range []string{"Corefile:6", "cahce", "hint: ", "cache"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error has no %q: %v", want, err)
		}
	}
	expect(t, 2*time.Second, "web.service.internal", dns.TypeA, "NOERROR", "10.0.0.1")
}

func TestSecondCopyIsRefused(t *testing.T) {
	p := start(t, plainCorefile)
	for name, args := range map[string][]string{
		"same data directory": {"run", "--data-dir", p.data, "--corefile", p.corefile, "--api", "127.0.0.1:8999"},
		"same address":        {"run", "--data-dir", shortDir(t) + "/d", "--corefile", p.corefile, "--api", "127.0.0.1:8999"},
	} {
		second := spawn(t, p.bin, args...)
		select {
		case <-second.done:
		case <-time.After(20 * time.Second):
			t.Errorf("%s: the second copy runs", name)
			continue
		}
		if second.err == nil || !strings.Contains(second.out.String(), "resolverd: error:") || !strings.Contains(second.out.String(), "pid") {
			t.Errorf("%s: %v, printed:\n%s", name, second.err, second.out)
		}
	}
}
