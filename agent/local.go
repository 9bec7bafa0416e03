package agent

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/resolverd/resolverd/agent/check"
	"github.com/resolverd/resolverd/agent/source"
	"github.com/resolverd/resolverd/api"
	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/catalog"
)

// startLocal starts what acts on this host's behalf, checks, definition files and the
// API, and says that the agent is ready.
func (a *agent) startLocal(context.Context) error {
	metrics := prometheus.NewRegistry()
	var files *source.Files
	if a.cfg.ServicesDir != "" {
		files = source.NewFiles(source.Config{
			Dir: a.cfg.ServicesDir, Node: a.cfg.Node, Catalog: a.catalog, View: a.view, Log: a.log,
		})
		metrics.MustRegister(files)
	}
	runner := check.NewRunner(check.Config{
		Node: a.cfg.Node, View: a.view, Log: a.log,
		Interval: a.cfg.CheckInterval, Timeout: a.cfg.CheckTimeout,
		Report: a.report, Reap: a.reap,
		AllowScript: func(c *registry.Check) bool {
			return a.cfg.APIScripts || files != nil && files.Vouches(c)
		},
	})
	metrics.MustRegister(runner, a)
	a.spawn("checks", runner.Run)
	if files != nil {
		a.spawn("definition files", files.Run)
	}
	at, err := a.serveHTTP(api.New(api.Config{
		Catalog: a.catalog, View: a.view,
		Node: a.cfg.Node, NodeID: a.cfg.NodeID, Datacenter: a.cfg.Datacenter, Version: a.cfg.Version,
		Token: a.cfg.APIToken, AllowScripts: a.cfg.APIScripts,
		Beat:    runner.Beat,
		Metrics: metrics, Log: a.log,
	}))
	if err != nil {
		return err
	}
	a.cfg.Ready(at)
	return nil
}

// report writes what a check found.
func (a *agent) report(ctx context.Context, node, id string, s registry.Status, output string) error {
	_, err := a.catalog.SetStatus(ctx, catalog.Actor{Name: "check"}, node, id, s, output)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil // deregistered meanwhile
	}
	return err
}

// reap takes out an instance that was critical for too long.
func (a *agent) reap(ctx context.Context, node, id, reason string) error {
	_, err := a.catalog.Deregister(ctx, catalog.Actor{Name: "reaper", Reason: reason}, node, id)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	return err
}
