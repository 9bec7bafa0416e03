package forward

import (
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fakeConn knows whether it is open.
type fakeConn struct {
	net.Conn
	closed atomic.Bool
}

func (c *fakeConn) Close() error { c.closed.Store(true); return nil }

func TestIdle(t *testing.T) {
	open := func() (*pooled, *fakeConn) {
		c := &fakeConn{}
		return &pooled{Conn: c, created: time.Now()}, c
	}
	tests := []struct {
		name string
		idle *idle
		run  func(t *testing.T, i *idle)
	}{
		{"the youngest first", newIdle(10*time.Second, 0, 0, 0, nil), func(t *testing.T, i *idle) {
			a, _ := open()
			b, _ := open()
			i.put(a, time.Now())
			i.put(b, time.Now())
			if i.take(time.Now()) != b || i.take(time.Now()) != a || i.take(time.Now()) != nil {
				t.Error("not the youngest first")
			}
		}},
		{"drawn", newIdle(10*time.Second, 0, 0, 0, func(int) int { return 0 }), func(t *testing.T, i *idle) {
			a, _ := open()
			b, _ := open()
			i.put(a, time.Now())
			i.put(b, time.Now())
			if i.take(time.Now()) != a {
				t.Error("not the one drawn")
			}
		}},
		{"unused for too long", newIdle(10*time.Second, 0, 0, 0, nil), func(t *testing.T, i *idle) {
			a, ca := open()
			i.put(a, time.Now())
			time.Sleep(9 * time.Second)
			b, cb := open()
			i.put(b, time.Now())
			time.Sleep(time.Second)
			synctest.Wait()
			if !ca.closed.Load() || cb.closed.Load() {
				t.Errorf("after 10 s: closed %t, the younger %t", ca.closed.Load(), cb.closed.Load())
			}
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if !cb.closed.Load() {
				t.Error("nobody closed the younger")
			}
		}},
		{"too old", newIdle(10*time.Second, 15*time.Second, 0, 0, nil), func(t *testing.T, i *idle) {
			a, ca := open()
			for range 3 {
				i.put(a, time.Now())
				time.Sleep(5 * time.Second)
				if got := i.take(time.Now()); got == nil {
					break
				}
			}
			if !ca.closed.Load() {
				t.Error("still in use after 15 s")
			}
		}},
		{"used often enough", newIdle(10*time.Second, 0, 0, 2, nil), func(t *testing.T, i *idle) {
			a, ca := open()
			i.put(a, time.Now())
			i.put(i.take(time.Now()), time.Now())
			if !ca.closed.Load() {
				t.Error("still in use")
			}
		}},
		{"no room", newIdle(10*time.Second, 0, 1, 0, nil), func(t *testing.T, i *idle) {
			a, ca := open()
			b, cb := open()
			i.put(a, time.Now())
			i.put(b, time.Now())
			if ca.closed.Load() || !cb.closed.Load() {
				t.Errorf("closed %t %t", ca.closed.Load(), cb.closed.Load())
			}
		}},
		{"keeps none", newIdle(0, 0, 0, 0, nil), func(t *testing.T, i *idle) {
			a, ca := open()
			i.put(a, time.Now())
			if !ca.closed.Load() {
				t.Error("kept")
			}
		}},
		{"closed", newIdle(10*time.Second, 0, 0, 0, nil), func(t *testing.T, i *idle) {
			a, ca := open()
			i.put(a, time.Now())
			i.close()
			b, cb := open()
			i.put(b, time.Now())
			if !ca.closed.Load() || !cb.closed.Load() {
				t.Errorf("closed %t %t", ca.closed.Load(), cb.closed.Load())
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.run(t, tt.idle)
				tt.idle.close()
			})
		})
	}
}
