package fastpath_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	caches "github.com/resolverd/resolverd/plugin/cache"
)

// The flood of random names: more than the plugins could answer, and not more than the
// test's own sender and upstream leave this machine the time for.
const (
	floodBurst = 40 // each millisecond
	floodTime  = 3 * time.Second
)

// TestFlood asks for names that nobody has, each once, while a client asks for names that
// are cached. Each of these gets its answer, as a stub resolver asks that tries three
// times, and memory stays within its bounds: where the upstream denies, and where it says
// nothing at all.
func TestFlood(t *testing.T) {
	for _, silent := range []bool{false, true} {
		t.Run(fmt.Sprintf("silent %t", silent), func(t *testing.T) {
			var quiet atomic.Bool
			pc, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			inner := shapes{compress: true}
			up := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
				if !quiet.Load() {
					inner.ServeDNS(w, r)
				}
			})}
			go up.ActivateAndServe()
			t.Cleanup(func() { up.Shutdown() })
			port := freePort(t)
			run(t, fmt.Sprintf(".:%s {\nbind 127.0.0.1\nerrors\ncache {\nbytes 4MiB\n}\nforward . %s {\nexpire 1s\n}\n}\n", port, pc.LocalAddr()))
			listenerOf(t, port)

			stub := dial(t, "127.0.0.2", "127.0.0.1:"+port)
			ask := func(n int) bool {
				p, _ := new(dns.Msg).SetQuestion(fmt.Sprintf("a-%d.good.test.", n), dns.TypeA).Pack()
				buf := make([]byte, 1500)
				for try := range 3 {
					id := uint16(n*3 + try)
					binary.BigEndian.PutUint16(p, id)
					if _, err := stub.Write(p); err != nil {
						t.Fatal(err)
					}
					stub.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
					for {
						k, err := stub.Read(buf)
						if err != nil {
							break
						}
						if k > 12 && binary.BigEndian.Uint16(buf) == id {
							return buf[3]&0x0F == 0 && binary.BigEndian.Uint16(buf[6:]) == 1
						}
					}
				}
				return false
			}
			const names = 200
			for range 3 {
				for n := range names {
					if !ask(n) {
						t.Fatalf("name %d has no answer before the flood", n)
					}
				}
			}
			quiet.Store(silent)
			runtime.GC()
			var before runtime.MemStats
			runtime.ReadMemStats(&before)

			var wg sync.WaitGroup
			var sent atomic.Int64
			over := make(chan struct{})
			wg.Go(func() {
				defer close(over)
				c, err := net.Dial("udp", "127.0.0.1:"+port)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				p, _ := new(dns.Msg).SetQuestion("nx-0123456789abcdef.victim.test.", dns.TypeA).Pack()
				tick := time.NewTicker(time.Millisecond)
				defer tick.Stop()
				burst := floodBurst
				if testing.Short() { // under the race detector, which is as slow as this
					burst /= 8
				}
				for end := time.Now().Add(floodTime); time.Now().Before(end); <-tick.C {
					for range burst {
						copy(p[16:], fmt.Sprintf("%016x", rand.Uint64()))
						_, _ = c.Write(p) // nobody listens to the replies
						sent.Add(1)
					}
				}
			})
			asked, lost := 0, 0
			for flooding := true; flooding; asked++ {
				if !ask(asked % names) {
					lost++
				}
				select {
				case <-over:
					flooding = false
				default:
				}
			}
			wg.Wait()
			var after runtime.MemStats
			runtime.ReadMemStats(&after)
			t.Logf("%d random names, %d answers from the cache, heap %d to %d KiB", sent.Load(), asked, before.HeapInuse>>10, after.HeapInuse>>10)
			if lost > 0 || asked < names {
				t.Errorf("%d of %d cached names had no answer", lost, asked)
			}
			// What is under way is bounded (forward.MaxInFlight, twice), by some 10 KB a query.
			if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 256<<20 {
				t.Errorf("the heap grew by %d MiB", grown>>20)
			}
			caches.Each(func(c *caches.Store) {
				if st := c.Stats(); st.Bytes > st.Budget {
					t.Errorf("%d octets of %d are used", st.Bytes, st.Budget)
				}
			})
		})
	}
}
