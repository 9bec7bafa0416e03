package agent_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/resolverd/resolverd/agent"
	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/relay"
)

// running is an agent of a test, and an answerer that follows it.
type running struct {
	api  netip.AddrPort
	stop func() error
}

func config(dir string) agent.Config {
	return agent.Config{
		Node: "Host1", NodeID: "6b2f7a1e-0000-4000-8000-000000000001", Address: netip.MustParseAddr("192.0.2.7"),
		DataDir: filepath.Join(dir, "agent"), RunDir: filepath.Join(dir, "run"),
		API: netip.MustParseAddrPort("127.0.0.1:0"), Version: "test", Log: slog.New(slog.DiscardHandler),
	}
}

func start(t testing.TB, cfg agent.Config) *running {
	t.Helper()
	ready := make(chan netip.AddrPort, 1)
	cfg.Ready = func(a netip.AddrPort) { ready <- a }
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- agent.Run(ctx, cfg) }()
	r := &running{}
	var once sync.Once
	var err error
	r.stop = func() error {
		once.Do(func() { cancel(); err = <-ended })
		return err
	}
	t.Cleanup(func() { r.stop() })
	select {
	case r.api = <-ready:
	case err := <-ended:
		t.Fatal(err)
	case <-time.After(time.Minute):
		t.Fatal("not ready")
	}
	return r
}

func follow(t testing.TB, cfg agent.Config) *registry.View {
	t.Helper()
	v := registry.NewView()
	f := relay.NewFollower(relay.FollowerConfig{Path: filepath.Join(cfg.RunDir, "relay.sock"), View: v, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { f.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return v
}

// await waits until the view is as wanted.
func await(t testing.TB, v *registry.View, what string, ok func(*registry.Snapshot) bool) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		bell, leave := v.Listen(registry.Topic{Kind: registry.TopicAny})
		if ok(v.Load()) {
			leave()
			return
		}
		select {
		case <-bell:
		case <-timeout:
			t.Fatalf("never seen: %s", what)
		}
		leave()
	}
}

func TestAgentEntersItsNodeAndKeepsItOverAStop(t *testing.T) {
	cfg := config(t.TempDir())
	v := follow(t, cfg)
	a := start(t, cfg)
	await(t, v, "the node, alive", func(s *registry.Snapshot) bool {
		n := s.Node("host1")
		return n != nil && n.Alive && n.Agent && n.Address.String() == "192.0.2.7" && n.ID == cfg.NodeID
	})
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	if n := v.Load().Node("host1"); n == nil || !n.Alive {
		t.Fatalf("after a stop: %+v", n)
	}
	for _, r := range v.Records().Records {
		if r.Key.Kind == registry.KindAlive && !strings.Contains(string(r.Value), "stopped") {
			t.Errorf("no marker of the stop: %s", r.Value)
		}
	}
	rev := v.Load().Revision
	cfg.Address = netip.MustParseAddr("192.0.2.8")
	start(t, cfg)
	await(t, v, "the new address", func(s *registry.Snapshot) bool {
		return s.Revision > rev && s.Node("host1").Address.String() == "192.0.2.8"
	})
}

func TestSettingsAreRefusedAllAtOnce(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.Node, cfg.Address = "", netip.IPv4Unspecified()
	cfg.API, cfg.APIScripts = netip.MustParseAddrPort("0.0.0.0:8553"), true
	err := agent.Run(context.Background(), cfg)
	if err == nil {
		t.Fatal("started")
	}
	for _, want := range []string{"no node name", "node address", "needs a token", "script checks", "--api-token-file"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not told of in:\n%v", want, err)
		}
	}
	if _, err := os.Stat(cfg.DataDir); !errors.Is(err, os.ErrNotExist) {
		t.Error("something was made all the same")
	}
}

func TestPortInUse(t *testing.T) {
	cfg := config(t.TempDir())
	a := start(t, cfg)
	other := config(t.TempDir())
	other.API = a.api
	err := agent.Run(context.Background(), other)
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), fmt.Sprint(a.api.Port())) {
		t.Fatalf("got %v", err)
	}
}
