package api

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/go-bexpr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/catalog"
)

// Config is what the API stands on.
type Config struct {
	// Catalog takes the writes and View answers the reads; both are needed.
	Catalog *catalog.Catalog
	View    *registry.View
	// Node is this host's node name, NodeID its UUID, Datacenter the name that `dc`
	// must be if it is given ("dc1" where empty).
	Node, NodeID, Datacenter string
	Version                  string
	// Token is what every request must bring; "" asks for none, which is right on
	// loopback only: see CheckListen.
	Token string
	// AllowScripts takes script checks over the API. Without a Token it has no effect.
	AllowScripts bool
	// Beat is told of every report for a check of this node, also of one that changes
	// nothing, so that a ttl check goes on living. May be nil.
	Beat func(node, checkID string)
	// Metrics is where the API's metrics are registered, and what
	// /v1/resolverd/metrics shows; nil makes a registry of its own.
	Metrics *prometheus.Registry
	// MaxBlocking bounds the blocking queries at one time; 0 means 4,096.
	MaxBlocking int
	// BodyTime bounds how long a request's body may take to arrive; 0 means 30 s.
	BodyTime time.Duration
	Log      *slog.Logger
	// Now is time.Now outside of tests.
	Now func() time.Time
}

// Bounds of what a request may cost.
const (
	MaxBody     = 1 << 20 // octets
	maxURL      = 16 << 10
	maxHeader   = 64 << 10
	readBody    = 30 * time.Second
	writeReply  = 60 * time.Second
	writeCommit = 15 * time.Second // for a registration to be committed
)

type server struct {
	Config
	exact    map[string]*target // by path
	blocking chan struct{}      // one place for each blocking query
	metrics  *metrics
}

// New returns the handler. It is safe for any number of requests at once and owns no
// goroutine.
func New(cfg Config) http.Handler {
	if cfg.Datacenter == "" {
		cfg.Datacenter = "dc1"
	}
	if cfg.MaxBlocking <= 0 {
		cfg.MaxBlocking = 4096
	}
	if cfg.BodyTime <= 0 {
		cfg.BodyTime = readBody
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	if cfg.AllowScripts && cfg.Token == "" {
		cfg.Log.Warn("script checks over the API need a token; they stay refused")
		cfg.AllowScripts = false
	}
	s := &server{Config: cfg, blocking: make(chan struct{}, cfg.MaxBlocking)}
	s.metrics = newMetrics(cfg.Metrics, s)
	s.route()
	return s
}

// call is one request on its way.
type call struct {
	*http.Request
	w      http.ResponseWriter
	rest   string           // what follows the route's prefix, unescaped
	code   int              // of the reply, for the metrics
	filter *bexpr.Evaluator // see compile
}

// endpoint answers a call, or returns an error that becomes the reply.
type endpoint func(*call) error

type route struct {
	method string
	path   string // ends in "/" where something must follow
	serve  endpoint
}

// target is all that stands under one path.
type target struct {
	path    string
	methods map[string]endpoint
}

func (s *server) route() {
	const get, put = http.MethodGet, http.MethodPut
	for _, r := range []route{
		{get, "/v1/status/leader", s.statusLeader},
		{get, "/v1/status/peers", s.statusPeers},
		{get, "/v1/agent/self", s.agentSelf},
		{get, "/v1/agent/members", s.agentMembers},
		{get, "/v1/agent/services", s.agentServices},
		{get, "/v1/agent/service/", s.agentService},
		{get, "/v1/agent/checks", s.agentChecks},
		{put, "/v1/agent/service/register", s.agentServiceRegister},
		{put, "/v1/agent/service/deregister/", s.agentServiceDeregister},
		{put, "/v1/agent/service/maintenance/", s.agentServiceMaintenance},
		{put, "/v1/agent/maintenance", s.agentMaintenance},
		{put, "/v1/agent/check/register", s.agentCheckRegister},
		{put, "/v1/agent/check/deregister/", s.agentCheckDeregister},
		{put, "/v1/agent/check/pass/", s.agentCheckSet(registry.Passing)},
		{put, "/v1/agent/check/warn/", s.agentCheckSet(registry.Warning)},
		{put, "/v1/agent/check/fail/", s.agentCheckSet(registry.Critical)},
		{put, "/v1/agent/check/update/", s.agentCheckUpdate},
		{get, "/v1/agent/health/service/name/", s.agentHealthByName},
		{get, "/v1/agent/health/service/id/", s.agentHealthByID},
		{put, "/v1/catalog/register", s.catalogRegister},
		{put, "/v1/catalog/deregister", s.catalogDeregister},
		{get, "/v1/catalog/datacenters", s.catalogDatacenters},
		{get, "/v1/catalog/nodes", s.catalogNodes},
		{get, "/v1/catalog/services", s.catalogServices},
		{get, "/v1/catalog/service/", s.catalogService},
		{get, "/v1/catalog/node/", s.catalogNode},
		{get, "/v1/catalog/node-services/", s.catalogNodeServices},
		{get, "/v1/health/service/", s.healthService},
		{get, "/v1/health/state/", s.healthState},
		{get, "/v1/health/node/", s.healthNode},
		{get, "/v1/health/checks/", s.healthChecks},
		{get, "/v1/resolverd/status", s.ownStatus},
		{get, "/v1/resolverd/instances", s.ownInstances},
		{get, "/v1/resolverd/nodes", s.ownNodes},
		{get, "/v1/resolverd/history", s.ownHistory},
		{put, "/v1/resolverd/service/drain/", s.ownServiceDrain},
		{put, "/v1/resolverd/drain", s.ownDrain},
		{get, "/v1/resolverd/metrics", s.metrics.serve},
	} {
		s.add(r)
	}
}

func (s *server) add(r route) {
	if s.exact == nil {
		s.exact = map[string]*target{}
	}
	t := s.exact[r.path]
	if t == nil {
		t = &target{path: r.path, methods: map[string]endpoint{}}
		s.exact[r.path] = t
	}
	t.methods[r.method] = r.serve
}

// find returns what stands under the path: the whole of it, or the longest prefix that
// takes a rest. Ids may hold slashes.
func (s *server) find(path string) (t *target, rest string) {
	if t := s.exact[path]; t != nil && !strings.HasSuffix(path, "/") {
		return t, ""
	}
	for n := len(path); n > 0; {
		at := strings.LastIndexByte(path[:n], '/')
		if at < 0 {
			break
		}
		if t := s.exact[path[:at+1]]; t != nil && at+1 < len(path) {
			return t, path[at+1:]
		}
		n = at
	}
	return nil, ""
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := s.Now()
	c := &call{Request: r, w: w}
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	if r.ContentLength != 0 {
		// Also for those that are turned away: net/http reads the rest of a body before it
		// sends the reply, and who sends none would hold the connection for ever.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.BodyTime)) // tests have none
	}
	name := "other"
	err := s.gate(c)
	if err == nil {
		var t *target
		if t, c.rest = s.find(r.URL.Path); t == nil {
			err = fail(http.StatusNotFound, "no such endpoint: %s (docs/api.md lists what there is)", clip(r.URL.Path))
		} else {
			name = t.path
			err = t.serve(c)
		}
	}
	if err != nil {
		s.refuse(c, err)
	}
	s.metrics.seen(name, c.code, s.Now().Sub(began))
}

func (t *target) serve(c *call) error {
	method := c.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	e := t.methods[method]
	if e == nil {
		var allow []string
		for m := range t.methods {
			allow = append(allow, m)
		}
		c.w.Header().Set("Allow", strings.Join(allow, ", "))
		return fail(http.StatusMethodNotAllowed, "method %s is not allowed here, use %s", clip(c.Method), strings.Join(allow, " or "))
	}
	return e(c)
}

// within bounds the time that a write may take.
func within(c *call) (context.Context, context.CancelFunc) {
	return context.WithTimeout(c.Context(), writeCommit)
}

func (s *server) actor(c *call) catalog.Actor {
	return catalog.Actor{Owner: registry.OwnerAPI, Name: "api", Source: c.RemoteAddr}
}
