package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/resolverd/resolverd/registry"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// historyPrefix is where events stand: beside the registry, so that no view follows it.
var historyPrefix = strings.TrimSuffix(registry.Prefix, "registry/") + "history/"

const historyPage = 1000

// event returns the key and value of an event. Keys fall as time grows, so that the
// newest are read first without sorting; what follows the time makes them unique.
func (s *Store) event(e registry.Event) (key, value string) {
	if e.Time.IsZero() {
		e.Time = s.cfg.Now()
	}
	e.Revision = 0
	b, err := json.Marshal(e)
	if err != nil { // a year beyond 9999 is all that JSON cannot write
		e.Time = s.cfg.Now()
		b, _ = json.Marshal(e)
	}
	return fmt.Sprintf("%s-%08x-%016x", historyAt(e.Time), s.salt, ^s.events.Add(1)), string(b)
}

// historyAt returns the start of the keys of events at t.
func historyAt(t time.Time) string {
	return fmt.Sprintf("%s%016x", historyPrefix, ^uint64(max(0, t.UnixNano())))
}

// History returns the events that the query keeps, newest first, each with the revision
// of the write that it tells of. An event that cannot be read is left out.
func (s *Store) History(ctx context.Context, q registry.HistoryQuery) ([]registry.Event, error) {
	from, end := historyPrefix, clientv3.GetPrefixRangeEnd(historyPrefix)
	if !q.Since.IsZero() {
		end = historyAt(q.Since) + "." // '.' is next to '-'
	}
	var out []registry.Event
	for {
		res, err := s.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(historyPage))
		if err != nil {
			return nil, fmt.Errorf("store: history: %w", err)
		}
		for _, kv := range res.Kvs {
			var e registry.Event
			if json.Unmarshal(kv.Value, &e) != nil {
				continue
			}
			e.Revision = uint64(kv.ModRevision)
			if q.Matches(e) {
				if out = append(out, e); len(out) == q.Max() {
					return out, nil
				}
			}
		}
		if !res.More {
			return out, nil
		}
		from = string(res.Kvs[len(res.Kvs)-1].Key) + "\x00"
	}
}

// trimHistory removes the events that are too old, and the oldest of those that are too
// many.
func (s *Store) trimHistory(ctx context.Context) error {
	end := clientv3.GetPrefixRangeEnd(historyPrefix)
	old := historyAt(s.cfg.Now().Add(-s.cfg.HistoryAge))
	res, err := s.client.Get(ctx, historyPrefix, clientv3.WithRange(end), clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	aged, err := s.client.Get(ctx, old, clientv3.WithRange(end), clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	cut := ""
	if aged.Count > 0 {
		cut = old
	}
	// A tenth more than is kept may stand, so that this is seldom done.
	if res.Count-aged.Count > int64(s.cfg.HistoryMax)+int64(s.cfg.HistoryMax)/10 {
		if cut, err = s.historyKey(ctx, int64(s.cfg.HistoryMax)); err != nil {
			return err
		}
	}
	if cut == "" {
		return nil
	}
	_, err = s.client.Delete(ctx, cut, clientv3.WithRange(end))
	return err
}

// historyKey returns the key of the n-th newest event.
func (s *Store) historyKey(ctx context.Context, n int64) (string, error) {
	from, end := historyPrefix, clientv3.GetPrefixRangeEnd(historyPrefix)
	for {
		page := min(n+1, 10*historyPage)
		res, err := s.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithKeysOnly(), clientv3.WithLimit(page))
		if err != nil {
			return "", err
		}
		if int64(len(res.Kvs)) > n {
			return string(res.Kvs[n].Key), nil
		}
		if !res.More {
			return "", nil
		}
		n -= int64(len(res.Kvs))
		from = string(res.Kvs[len(res.Kvs)-1].Key) + "\x00"
	}
}
