package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// register enters one instance through Consul's API, ours or theirs.
func register(ctx context.Context, api, name, id, address string, port int) error {
	body, err := json.Marshal(map[string]any{"Name": name, "ID": id, "Address": address, "Port": port})
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+api+"/v1/agent/service/register", bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
		return fmt.Errorf("register at %s: %s: %s", api, resp.Status, text)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// fill registers all services; it tries for a while, as the API may not be up yet.
func (b *bench) fill(api string) error {
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Minute)
	defer cancel()
	for {
		err := register(ctx, api, "s0", "s0-0", "10.0.0.1", 8000)
		if err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
	var g sync.WaitGroup
	var first atomic.Pointer[error]
	work := make(chan int)
	for range 8 {
		g.Go(func() {
			for n := range work {
				s, i := n/3, n%3
				err := register(ctx, api, fmt.Sprintf("s%d", s), fmt.Sprintf("s%d-%d", s, i),
					fmt.Sprintf("10.%d.%d.%d", i, s/250, s%250+1), 8000)
				if err != nil {
					first.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	for n := range services * 3 {
		work <- n
	}
	close(work)
	g.Wait()
	if err := first.Load(); err != nil {
		return *err
	}
	return nil
}

// churn changes the registry at a pace, on names that nobody asks for.
type churn struct {
	stop context.CancelFunc
	done sync.WaitGroup
	made atomic.Int64
}

// startChurn runs until its end is called. Four clients keep the pace where one change
// takes up to 40 ms.
func startChurn(ctx context.Context, api string, perSecond int) *churn {
	ctx, stop := context.WithCancel(ctx)
	c := &churn{stop: stop}
	due := make(chan int)
	c.done.Go(func() {
		defer close(due)
		t := time.NewTicker(time.Second / time.Duration(perSecond))
		defer t.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
			select {
			case <-ctx.Done():
				return
			case due <- n:
			}
		}
	})
	for range 4 {
		c.done.Go(func() {
			for n := range due {
				name := fmt.Sprintf("churn%d", n%50)
				if register(ctx, api, name, name, "10.9.9.9", 1024+n%50_000) == nil {
					c.made.Add(1)
				}
			}
		})
	}
	return c
}

// end stops the changes and returns how many were made.
func (c *churn) end() int64 {
	c.stop()
	c.done.Wait()
	return c.made.Load()
}
