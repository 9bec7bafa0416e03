package fastpath_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/resolverd/resolverd/corefile"
	caches "github.com/resolverd/resolverd/plugin/cache"
)

func TestWhereItIsOff(t *testing.T) {
	for name, tc := range map[string]struct{ text, listener, block string }{
		"plain":       {".:PORT {\nbind 127.0.0.1\ncache\nforward . 127.0.0.1:1\n}\n", "", ""},
		"registry":    {".:PORT {\nbind 127.0.0.1\nregistry internal.\n}\n", "", ""},
		"written on":  {".:PORT {\nbind 127.0.0.1\nfastpath on\ncache\n}\n", "", ""},
		"everything":  {".:PORT {\nbind 127.0.0.1\nmetadata\ncancel 1s\nbufsize 1232\nnsid x\nerrors\nlocal\nany\nchaos\nhorizon h 127.0.0.0/8\ncache\nminimal\nhosts /etc/hosts\nloop\nwhoami\n}\n", "", ""},
		"off":         {".:PORT {\nbind 127.0.0.1\nfastpath off\ncache\n}\n", "no block of it has a fast path", "fastpath off"},
		"nothing":     {".:PORT {\nbind 127.0.0.1\nwhoami\n}\n", "no block of it has a fast path", "neither cache nor registry is in it"},
		"log":         {".:PORT {\nbind 127.0.0.1\nlog\nlog . {combined} {\nclass error\n}\ncache\n}\n", "", ""},
		"log's data":  {".:PORT {\nbind 127.0.0.1\nlog . \"{name} {/forward/upstream}\"\ncache\n}\n", "no block of it has a fast path", "log writes {/forward/upstream}, which may differ for each query"},
		"dnstap":      {".:PORT {\nbind 127.0.0.1\ndnstap tcp://127.0.0.1:1 full\ncache\n}\n", "", ""},
		"its extra":   {".:PORT {\nbind 127.0.0.1\ndnstap tcp://127.0.0.1:1\ndnstap tcp://127.0.0.1:1 {\nextra \"{/forward/upstream}\"\n}\ncache\n}\n", "no block of it has a fast path", "dnstap's extra has metadata, which may differ for each query"},
		"loadbalance": {".:PORT {\nbind 127.0.0.1\nloadbalance\ncache\n}\n", "no block of it has a fast path", "loadbalance reorders each reply"},
		"rrl":         {".:PORT {\nbind 127.0.0.1\nrrl\ncache\n}\n", "", ""},
		"acl":         {".:PORT {\nbind 127.0.0.1\nacl {\nallow\n}\ncache\n}\n", "no block of it has a fast path", "acl decides by client"},
		"rewrite":     {".:PORT {\nbind 127.0.0.1\nrewrite name a.test b.test\ncache\n}\n", "no block of it has a fast path", "rewrite may decide by client"},
		"shed":        {".:PORT {\nbind 127.0.0.1\nshed\ncache\n}\n", "shed writes this listener's replies", "shed writes this listener's replies"},
		"shed beside": {"a.test:PORT {\nbind 127.0.0.1\nshed\nwhoami\n}\n.:PORT {\nbind 127.0.0.1\ncache\n}\n", "shed writes this listener's replies", ""},
		"view":        {".:PORT {\nbind 127.0.0.1\ncache\n}\na.test:PORT {\nbind 127.0.0.1\nview v {\nexpr type() == 'A'\n}\nwhoami\n}\n", "view decides by anything, the client's port and the id among it", ""},
		"multisocket": {".:PORT {\nbind 127.0.0.1\nmultisocket 2\ncache\n}\n", "multisocket spreads it over sockets already", ""},
		"proxyproto":  {".:PORT {\nbind 127.0.0.1\nproxyproto {\nallow 127.0.0.0/8\n}\ncache\n}\n", "proxyproto names other clients than the packets do", ""},
	} {
		t.Run(name, func(t *testing.T) {
			port := freePort(t)
			run(t, strings.ReplaceAll(tc.text, "PORT", port))
			s := listenerOf(t, port)
			if s.On != (tc.listener == "") || s.Reason != tc.listener {
				t.Errorf("listener on %v: %q", s.On, s.Reason)
			}
			found := tc.block == ""
			for _, b := range s.Blocks {
				found = found || b.Reason == tc.block
				if b.On && !s.On {
					t.Errorf("a block is on where its listener is not: %+v", s)
				}
			}
			if !found {
				t.Errorf("blocks: %+v, want %q", s.Blocks, tc.block)
			}
			// Whatever is on or off, there is an answer.
			c := dns.Client{Timeout: 2 * time.Second}
			if name == "proxyproto" {
				return
			}
			if _, _, err := c.Exchange(new(dns.Msg).SetQuestion("localhost.", dns.TypeA), "127.0.0.1:"+port); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	for text, want := range map[string]string{
		"fastpath maybe":         `"maybe" is neither on nor off`,
		"fastpath on off":        "Wrong argument count",
		"fastpath\nfastpath off": "this plugin can only be used once",
		"fastpath {\nx\n}":       `takes no block, but "x"`,
	} {
		file := t.TempDir() + "/Corefile"
		if err := os.WriteFile(file, []byte(".:0 {\n"+text+"\nwhoami\n}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := corefile.Check(corefile.Source{File: file}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// measured returns the counters and the histograms' counts and sums that end in the
// server's label, by name and other labels.
func measured(t *testing.T, server string) map[string]float64 {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "coredns_") || strings.Contains(f.GetName(), "entries") || strings.Contains(f.GetName(), "plugin_enabled") {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			ours := false
			for _, l := range m.GetLabel() {
				if l.GetName() == "server" {
					ours = l.GetValue() == server
					continue
				}
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			if !ours {
				continue
			}
			key := f.GetName() + "{" + strings.Join(labels, ",") + "}"
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				out[key] = m.GetCounter().GetValue()
			case dto.MetricType_HISTOGRAM:
				out[key+" count"] = float64(m.GetHistogram().GetSampleCount())
				if !strings.Contains(key, "duration") {
					out[key+" sum"] = m.GetHistogram().GetSampleSum()
				}
			}
		}
	}
	return out
}

// TestMetricsStayTrue asks the same of a listener with and of one without, and compares
// every metric of CoreDNS and of the cache.
func TestMetricsStayTrue(t *testing.T) {
	u := startUpstream(t)
	fast, slow := freePort(t), freePort(t)
	text := ""
	for _, l := range []string{fast, slow + " fastpath off"} {
		port, off, _ := strings.Cut(l, " ")
		text += fmt.Sprintf("example.test:%s test:%s {\nbind 127.0.0.1\nprometheus 127.0.0.1:%s\nerrors\n%s\ncache\nforward . %s\n}\n", port, port, freePort(t), off, u.addr)
	}
	run(t, text)
	f, s := dial(t, "127.0.0.1", "127.0.0.1:"+fast), dial(t, "127.0.0.1", "127.0.0.1:"+slow)
	for _, name := range []string{"a.example.test.", "nx.example.test.", "b.test.", "elsewhere."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeMX, dns.TypeNAPTR} {
			for _, do := range []bool{false, true} {
				for range 20 {
					m := new(dns.Msg).SetQuestion(name, qtype).SetEdns0(1232, do)
					m.Id = 0
					p, err := m.Pack()
					if err != nil {
						t.Fatal(err)
					}
					exchange(t, f, [][]byte{p})
					exchange(t, s, [][]byte{p})
				}
			}
		}
	}
	if st := listenerOf(t, fast); st.Hits < 100 {
		t.Fatalf("%d hits", st.Hits)
	}
	var diff []string
	for range 100 { // what is repeated is told in batches
		a, b := measured(t, "dns://127.0.0.1:"+fast), measured(t, "dns://127.0.0.1:"+slow)
		diff = nil
		for k, v := range b {
			if a[k] != v {
				diff = append(diff, fmt.Sprintf("%s: %v with, %v without", k, a[k], v))
			}
		}
		for k := range a {
			if _, ok := b[k]; !ok {
				diff = append(diff, k+": only with")
			}
		}
		if len(b) < 10 {
			t.Fatalf("%d metrics: %v", len(b), b)
		}
		if diff == nil {
			return
		}
		<-time.After(20 * time.Millisecond)
	}
	t.Error(strings.Join(diff, "\n"))
}

// TestReloadLosesNothing reloads with queries under way, to Corefiles with and without.
func TestReloadLosesNothing(t *testing.T) {
	u := startUpstream(t)
	port := freePort(t)
	text := func(off string) string {
		return fmt.Sprintf(".:%s {\nbind 127.0.0.1\n%s\ncache\nforward . %s\n}\n", port, off, u.addr)
	}
	r, file := run(t, text(""))
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var sent, lost atomic.Int64
	for i := range 4 {
		wg.Go(func() {
			c := dns.Client{Timeout: 2 * time.Second}
			for n := 0; ctx.Err() == nil; n++ {
				sent.Add(1)
				if _, _, err := c.Exchange(new(dns.Msg).SetQuestion(fmt.Sprintf("n%d.w%d.test.", n%50, i), dns.TypeA), "127.0.0.1:"+port); err != nil {
					lost.Add(1)
					t.Log(err)
				}
			}
		})
	}
	for i := range 8 {
		off := []string{"", "fastpath off", "fastpath off", ""}[i%4]
		if err := os.WriteFile(file, []byte(text(off)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.Reload(context.Background()); err != nil {
			t.Fatal(err)
		}
		if on := listenerOf(t, port).On; on != (off == "") {
			t.Errorf("reload %d: on %v", i, on)
		}
	}
	stop()
	wg.Wait()
	if lost.Load() > 0 || sent.Load() < 100 {
		t.Errorf("%d of %d lost", lost.Load(), sent.Load())
	}
}

// TestFlushIsAtOnce: what is flushed is asked for anew by the next query.
func TestFlushIsAtOnce(t *testing.T) {
	u := startUpstream(t)
	port := freePort(t)
	run(t, fmt.Sprintf(".:%s {\nbind 127.0.0.1\ncache\nforward . %s\n}\n", port, u.addr))
	c := dial(t, "127.0.0.1", "127.0.0.1:"+port)
	m := new(dns.Msg).SetQuestion("a.test.", dns.TypeA)
	m.Id = 0
	p, _ := m.Pack()
	for i := range 50 {
		for range 4 {
			exchange(t, c, [][]byte{p})
		}
		if n := u.asked.Load(); n != int64(i)+1 {
			t.Fatalf("round %d: the upstream was asked %d times", i, n)
		}
		caches.Each(func(c *caches.Store) { c.FlushName("a.test.") })
	}
	if listenerOf(t, port).Hits == 0 {
		t.Error("no hit")
	}
}

// TestAllAddresses serves without bind: each address has the fast path, and replies come
// from the address that was asked.
func TestAllAddresses(t *testing.T) {
	u := startUpstream(t)
	port := freePort(t)
	run(t, fmt.Sprintf(".:%s {\ncache\nforward . %s\n}\n", port, u.addr))
	if s := listenerOf(t, port); !s.On {
		t.Fatalf("%+v", s)
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok || n.IP.IsLinkLocalUnicast() {
			continue
		}
		conn, err := net.Dial("udp", net.JoinHostPort(n.IP.String(), port)) // takes replies from there alone
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		m := new(dns.Msg).SetQuestion("a.test.", dns.TypeA)
		p, _ := m.Pack()
		buf := make([]byte, 512)
		for range 5 {
			if _, err := conn.Write(p); err != nil {
				t.Fatal(err)
			}
			conn.SetReadDeadline(time.Now().Add(2 * time.Second))
			if _, err := conn.Read(buf); err != nil {
				t.Errorf("%s: %v", n.IP, err)
			}
		}
		asked++
	}
	if s := listenerOf(t, port); s.Hits+s.Relayed+s.Misses != uint64(5*asked) || s.Hits == 0 {
		t.Errorf("%d addresses asked: %+v", asked, s)
	}
}
