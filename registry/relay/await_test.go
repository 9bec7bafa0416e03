package relay

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/resolverd/resolverd/registry"
)

func TestAwait(t *testing.T) {
	s := newSource(t)
	ctx := context.Background()
	if !s.hub.Await(ctx, 99, time.Hour) {
		t.Error("waits though nobody follows")
	}
	v := registry.NewView()
	stop := run(NewFollower(FollowerConfig{Path: s.path, View: v, Log: quiet}))
	defer stop()
	await(t, v, s.rev)
	s.live(t, "")
	for i := range 200 {
		s.write(t, 1)
		if !s.hub.Await(ctx, s.rev, 20*time.Second) {
			t.Fatalf("write %d is not shown", i)
		}
		if v.Load().Revision < s.rev {
			t.Fatalf("write %d: view shows %d, want %d", i, v.Load().Revision, s.rev)
		}
	}

	// One that says that it is there and then reads no more is waited for once.
	c, err := net.Dial("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write(appendHello(nil, hello{version: Version, store: 7, revision: s.rev, name: "lazy"}))
	c.Write(appendNumber(nil, typeAck, s.rev))
	s.live(t, "lazy")
	s.write(t, 1)
	if s.hub.Await(ctx, s.rev, 50*time.Millisecond) {
		t.Error("the lazy one was not waited for")
	}
	if !s.hub.Await(ctx, s.rev, time.Hour) {
		t.Error("the lazy one was waited for again")
	}
}

// live waits until the hub counts the follower of this name as up to date.
func (s *source) live(t *testing.T, name string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		s.hub.mu.Lock()
		for p := range s.hub.followers {
			if p.name == name && p.live.Load() {
				s.hub.mu.Unlock()
				return
			}
		}
		s.hub.mu.Unlock()
		if time.Now().After(deadline) {
			t.Fatalf("follower %q is never up to date", name)
		}
		time.Sleep(time.Millisecond)
	}
}
