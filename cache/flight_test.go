package cache

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/miekg/dns"
)

func TestFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, Size{})
		key, _ := number(1, 60)
		f, lead := c.Join(key, "")
		if !lead || f == nil {
			t.Fatal("the first does not lead")
		}
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				g, lead := c.Join(key, "")
				if lead || g != f {
					t.Error("a second one leads")
					return
				}
				if out, err := g.Wait(t.Context()); err != nil || out.Rcode != 5 {
					t.Errorf("got %+v, %v", out, err)
				}
			})
		}
		synctest.Wait()
		gone, leave := context.WithCancel(t.Context())
		leave()
		if _, err := f.Wait(gone); !errors.Is(err, context.Canceled) {
			t.Errorf("the one who left got %v", err)
		}
		if v, lead := c.Join(key, "tcp"); !lead {
			t.Error("another variant waits")
		} else {
			v.Abort()
			if out, _ := v.Wait(t.Context()); out.Err == nil || out.Rcode != dns.RcodeServerFailure {
				t.Errorf("an aborted fetch brought %+v", out)
			}
		}
		f.Finish(Outcome{Rcode: 5})
		f.Finish(Outcome{Rcode: 6})
		f.Abort()
		wg.Wait()
		if _, lead := c.Join(key, ""); !lead {
			t.Error("the flight is still there after its end")
		}
	})
}

func TestFlightsAreBounded(t *testing.T) {
	c := open(t, Size{})
	var all []*Flight
	for i := range maxFlights {
		key, _ := number(i, 60)
		f, lead := c.Join(key, "")
		if f == nil || !lead {
			t.Fatal("refused too early")
		}
		all = append(all, f)
	}
	key, _ := number(maxFlights, 60)
	if f, lead := c.Join(key, ""); f != nil || !lead {
		t.Error("more than the bound")
	}
	(*Flight)(nil).Finish(Outcome{})
	(*Flight)(nil).Abort()
	// A flush forgets them, their owners end them all the same.
	c.Flush()
	for _, f := range all {
		f.Finish(Outcome{})
	}
	if n := c.Stats().Flying; n != 0 {
		t.Errorf("%d are still flying", n)
	}
}

func TestFlushParts(t *testing.T) {
	c := open(t, Size{})
	key, _ := number(1, 60)
	f, _ := c.Join(key, "")
	before := f.Epoch
	if _, err := c.FlushName("a..b"); err == nil {
		t.Error("a malformed name was flushed")
	}
	if _, err := c.FlushSuffix("a..b"); err == nil {
		t.Error("a malformed suffix was flushed")
	}
	if c.Epoch().Load() != before {
		t.Error("a refused flush raised the epoch")
	}
	if _, err := c.FlushName("b"); err != nil || c.Epoch().Load() == before {
		t.Error("a flush did not raise the epoch")
	}
	if g, lead := c.Join(key, ""); !lead || g == f {
		t.Error("who comes after the flush waits for what began before")
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
