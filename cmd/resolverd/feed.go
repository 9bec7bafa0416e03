package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/resolverd/resolverd/cmd/resolverd/settings"
	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/relay"
)

// feed keeps the answerer's view: from disk at once, from the agent as soon as it is up.
type feed struct {
	follower *relay.Follower
	cancel   context.CancelFunc
	done     sync.WaitGroup
}

// startFeed fills view from disk and follows the agent. A disk that cannot be read
// costs only the time until the agent is up.
func startFeed(s settings.Settings, view *registry.View, log *slog.Logger) *feed {
	disk := relay.NewDisk(relay.DiskConfig{Dir: s.AnswererDir(), Log: log})
	began := time.Now()
	switch n, err := disk.Load(view); {
	case err == nil:
		log.Info("registry read from disk", "records", n, "revision", view.Load().Revision, "took", time.Since(began).Round(time.Microsecond).String())
	case !errors.Is(err, fs.ErrNotExist):
		log.Warn("registry not read from disk, waiting for the agent", "error", err)
	}
	f := &feed{follower: relay.NewFollower(relay.FollowerConfig{
		Path: s.RelaySocket(), View: view, Disk: disk, Name: "answerer", Log: log,
	})}
	// The prometheus plugin shows the default registry. A second feed of a test is left out.
	_ = prometheus.Register(f.follower)
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	f.done.Go(func() { f.follower.Run(ctx) })
	f.done.Go(func() { disk.Run(ctx, view) })
	return f
}

// stop ends the following and writes what is not on disk yet.
func (f *feed) stop() {
	f.cancel()
	f.done.Wait()
}
