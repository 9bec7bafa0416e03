package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/resolverd/resolverd/cache"
	"github.com/resolverd/resolverd/cache/snapshot"
	"github.com/resolverd/resolverd/corefile"
	"github.com/resolverd/resolverd/internal/control"
	caches "github.com/resolverd/resolverd/plugin/cache"
	"github.com/resolverd/resolverd/plugin/fastpath"
	"github.com/resolverd/resolverd/registry"
)

// answererStatus is the answer to control.VerbStatus.
type answererStatus struct {
	Version   string   `json:"version"`
	Corefile  string   `json:"corefile"`
	Listeners []string `json:"listeners"`
	// Since is when the process began to answer.
	Since time.Time `json:"since"`
	// Revision of the registry's view, and Age, the seconds since the agent was last
	// heard; -1 where it never was in this process.
	Revision uint64  `json:"registry_revision"`
	Loaded   bool    `json:"registry_loaded"`
	Age      float64 `json:"registry_age_seconds"`
	// FastPath says for each listener and server block whether cached and registry
	// answers are repeated without the plugins, and if not why.
	FastPath fastpath.Status `json:"fastpath"`
}

// cacheStats is the answer to control.VerbCacheStats.
type cacheStats struct {
	Caches []oneCache `json:"caches"`
}

// oneCache is the cache of one server block.
type oneCache struct {
	cache.Stats
	// Snapshot is what became of it on disk, nil where it is not kept there.
	Snapshot *snapshot.Status `json:"snapshot,omitempty"`
	// Zones are the largest zones in it, as many as were asked for.
	Zones []cache.Zone `json:"zones,omitempty"`
}

// verbs are what the control socket can do.
func verbs(r *corefile.Runner, view *registry.View, since time.Time, log *slog.Logger) map[string]control.Func {
	return map[string]control.Func{
		control.VerbReload: func(ctx context.Context, _ json.RawMessage) (any, error) {
			if err := reload(ctx, r, log); err != nil {
				return nil, err
			}
			return struct {
				Corefile string `json:"corefile"`
			}{r.Loaded().Path}, nil
		},
		control.VerbCacheStats: func(_ context.Context, params json.RawMessage) (any, error) {
			var s control.Stats
			if len(params) > 0 {
				if err := json.Unmarshal(params, &s); err != nil {
					return nil, fmt.Errorf("stats: %w", err)
				}
			}
			return cacheStats{Caches: collectStats(s.Zones)}, nil
		},
		control.VerbCacheFlush: func(_ context.Context, params json.RawMessage) (any, error) {
			var f control.Flush
			if err := json.Unmarshal(params, &f); err != nil {
				return nil, fmt.Errorf("flush: %w", err)
			}
			if err := f.Validate(); err != nil {
				return nil, err
			}
			n, err := flush(f)
			if err != nil {
				return nil, err
			}
			log.Info("cache flushed", "name", f.Name, "suffix", f.Suffix, "all", f.All, "removed", n)
			return control.Flushed{Removed: n}, nil
		},
		control.VerbStatus: func(context.Context, json.RawMessage) (any, error) {
			s := answererStatus{
				Version: readAbout().Version, Corefile: r.Loaded().Path, Since: since,
				FastPath: fastpath.Current(),
				Revision: view.Load().Revision, Loaded: view.Loaded(), Age: -1,
			}
			for _, a := range r.Listeners() {
				s.Listeners = append(s.Listeners, a.String())
			}
			if age, ok := view.Age(time.Now()); ok {
				s.Age = age.Seconds()
			}
			return s, nil
		},
	}
}

// maxZones bounds the zones that are told of one cache.
const maxZones = 1000

func collectStats(zones int) []oneCache {
	all := []oneCache{}
	caches.Each(func(c *caches.Store) {
		one := oneCache{Stats: c.Stats()}
		if s, ok := c.Snapshot(); ok {
			one.Snapshot = &s
		}
		if zones > 0 {
			one.Zones = c.Zones(min(zones, maxZones))
		}
		all = append(all, one)
	})
	return all
}

func flush(f control.Flush) (removed int, err error) {
	caches.Each(func(c *caches.Store) {
		n, e := 0, error(nil)
		switch {
		case f.All:
			n = c.Flush()
		case f.Name != "":
			n, e = c.FlushName(f.Name)
		default:
			n, e = c.FlushSuffix(f.Suffix)
		}
		removed += n
		if e != nil {
			err = e
		}
	})
	return removed, err
}
