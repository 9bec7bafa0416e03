package api

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/resolverd/resolverd/registry"
)

// Bounds of a blocking query's wait, as in Consul; up to a sixteenth is added so that
// many clients do not come back at once.
const (
	defaultWait = 5 * time.Minute
	maxWait     = 10 * time.Minute
	// fresh is how long ago the store was heard of at most for "there is a leader".
	fresh = 30 * time.Second
)

// flag reports a parameter that is given, and not as false.
func (c *call) flag(name string) bool {
	q := c.URL.Query()
	if !q.Has(name) {
		return false
	}
	v := q.Get(name)
	b, err := strconv.ParseBool(v)
	return v == "" || err != nil || b
}

// inDatacenter refuses another data centre than our own.
func (s *server) inDatacenter(c *call) error {
	if dc := c.URL.Query().Get("dc"); dc != "" && !strings.EqualFold(dc, s.Datacenter) {
		return fail(http.StatusInternalServerError, "No path to datacenter")
	}
	return nil
}

// options are what all reads take.
type options struct {
	index uint64
	wait  time.Duration
}

func (s *server) options(c *call) (options, error) {
	if err := s.inDatacenter(c); err != nil {
		return options{}, err
	}
	q := c.URL.Query()
	if c.flag("stale") && c.flag("consistent") {
		return options{}, fail(http.StatusBadRequest, "Cannot specify ?stale with ?consistent, conflicting semantics.")
	}
	o := options{wait: defaultWait}
	if v := q.Get("index"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			return o, fail(http.StatusBadRequest, "Invalid index")
		}
		o.index = n
	}
	if v := q.Get("wait"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 {
			return o, fail(http.StatusBadRequest, "Invalid wait time")
		}
		if d > 0 {
			o.wait = min(d, maxWait)
		}
	}
	return o, nil
}

// read answers a query about the view. indexOf says when its result last changed, and
// topic what rings when it may have; render makes the reply of one snapshot.
func (s *server) read(c *call, topic registry.Topic, indexOf func(*registry.Snapshot) uint64, render func(*registry.Snapshot) (any, error)) error {
	o, err := s.options(c)
	if err != nil {
		return err
	}
	// What is wrong with the rest is said now, not after the wait.
	if _, err := pickOf(c); err != nil {
		return err
	}
	if _, err := c.compile(); err != nil {
		return err
	}
	if !s.View.Loaded() {
		return fail(http.StatusInternalServerError, "No cluster leader")
	}
	snap, err := s.wait(c, o, topic, indexOf)
	if err != nil {
		return err
	}
	v, err := render(snap)
	if err != nil {
		return err
	}
	s.meta(c, max(1, indexOf(snap)))
	return c.json(http.StatusOK, v)
}

// wait returns a snapshot whose index differs from the one that the client has, or the
// current one when the time is over. An index that went back, after a restore, is told
// at once: Consul's clients then begin anew.
func (s *server) wait(c *call, o options, topic registry.Topic, indexOf func(*registry.Snapshot) uint64) (*registry.Snapshot, error) {
	if snap := s.View.Load(); o.index == 0 || max(1, indexOf(snap)) != o.index {
		return snap, nil
	}
	select {
	case s.blocking <- struct{}{}:
		defer func() { <-s.blocking }()
	default:
		return nil, fail(http.StatusTooManyRequests, "more than %d blocking queries at once", s.MaxBlocking)
	}
	t := time.NewTimer(o.wait + rand.N(o.wait/16+1))
	defer t.Stop()
	for {
		bell, leave := s.View.Listen(topic)
		snap := s.View.Load()
		if max(1, indexOf(snap)) != o.index {
			leave()
			return snap, nil
		}
		select {
		case <-bell:
			leave()
		case <-t.C:
			leave()
			return s.View.Load(), nil
		case <-c.Context().Done():
			leave()
			return nil, c.Context().Err()
		}
	}
}

// meta sets Consul's headers about a read.
func (s *server) meta(c *call, index uint64) {
	age, known := s.View.Age(s.Now())
	h := c.w.Header()
	h.Set("X-Consul-Index", strconv.FormatUint(index, 10))
	h.Set("X-Consul-KnownLeader", strconv.FormatBool(known && age < fresh))
	h.Set("X-Consul-LastContact", strconv.FormatInt(age.Milliseconds(), 10))
	h.Set("X-Consul-Effective-Consistency", "leader")
	if c.flag("stale") {
		h.Set("X-Consul-Effective-Consistency", "stale")
	}
	h.Set("X-Consul-Default-ACL-Policy", "allow")
	h.Set("X-Consul-Query-Backend", "blocking-query")
	h.Set("Cache-Control", "no-store")
}

// Topics and indexes of the reads.

func ofService(name string) (registry.Topic, func(*registry.Snapshot) uint64) {
	return registry.Topic{Kind: registry.TopicService, Name: name}, func(s *registry.Snapshot) uint64 {
		if x := s.Service(name); x != nil {
			return x.Index
		}
		return s.GoneIndex
	}
}

func ofNode(name string) (registry.Topic, func(*registry.Snapshot) uint64) {
	return registry.Topic{Kind: registry.TopicNode, Name: name}, func(s *registry.Snapshot) uint64 {
		if n := s.Node(name); n != nil {
			return n.Index
		}
		return s.GoneIndex
	}
}
