package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/resolverd/resolverd/registry"
)

// Ports that Consul's servers have; no client connects there, but it wants to see them.
const (
	serverPort = 8300
	serfPort   = 8301
)

// self returns this host's node, or nil before its agent has registered it.
func (s *server) self() *registry.NodeState { return s.View.Load().Node(s.Node) }

func (s *server) leader() string {
	age, known := s.View.Age(s.Now())
	n := s.self()
	if !known || age >= fresh || n == nil {
		return ""
	}
	return hostPort(n.Address.String(), serverPort)
}

func (s *server) statusLeader(c *call) error {
	if err := s.inDatacenter(c); err != nil {
		return err
	}
	return c.json(http.StatusOK, s.leader())
}

func (s *server) statusPeers(c *call) error {
	if err := s.inDatacenter(c); err != nil {
		return err
	}
	peers := []string{}
	if l := s.leader(); l != "" {
		peers = append(peers, l)
	}
	return c.json(http.StatusOK, peers)
}

type memberJSON struct {
	Name        string
	Addr        string
	Port        int
	Tags        map[string]string
	Status      int
	ProtocolMin int
	ProtocolMax int
	ProtocolCur int
	DelegateMin int
	DelegateMax int
	DelegateCur int
}

// member renders a node as Serf would: status 1 is alive, 4 failed.
func (s *server) member(n *registry.NodeState) memberJSON {
	m := memberJSON{
		Name: n.Name, Addr: n.Address.String(), Port: serfPort, Status: 1,
		Tags:        map[string]string{"dc": s.Datacenter, "role": "node", "id": n.ID, "build": s.Version},
		ProtocolMin: 1, ProtocolMax: 5, ProtocolCur: 2, DelegateMin: 2, DelegateMax: 5, DelegateCur: 4,
	}
	if registry.Fold(n.Name) == registry.Fold(s.Node) {
		m.Tags["role"] = "consul"
	}
	if !n.Alive {
		m.Status = 4
	}
	return m
}

func (s *server) agentSelf(c *call) error {
	reply := map[string]any{
		"Config": map[string]any{
			"Datacenter": s.Datacenter, "PrimaryDatacenter": s.Datacenter,
			"NodeName": s.Node, "NodeID": s.NodeID, "Server": true,
			"Revision": "", "Version": s.Version, "BuildDate": time.Time{},
		},
		"Coord": map[string]any{
			"Adjustment": 0, "Error": 1.5, "Height": 1e-5, "Vec": []float64{0, 0, 0, 0, 0, 0, 0, 0},
		},
		"Stats": map[string]any{
			"agent": map[string]string{"name": "resolverd", "version": s.Version},
		},
		"DebugConfig": map[string]any{},
		"Meta":        map[string]string{},
	}
	if n := s.self(); n != nil {
		reply["Member"], reply["Meta"] = s.member(n), orEmpty(n.Meta)
	} else {
		reply["Member"] = map[string]any{"Name": s.Node}
	}
	return c.json(http.StatusOK, reply)
}

func (s *server) agentMembers(c *call) error {
	out := []memberJSON{}
	for n := range s.View.Load().Nodes() {
		if n.Agent || registry.Fold(n.Name) == registry.Fold(s.Node) {
			out = append(out, s.member(n))
		}
	}
	slices.SortFunc(out, func(a, b memberJSON) int { return strings.Compare(a.Name, b.Name) })
	out, err := narrowed(c, out)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, out)
}

func (s *server) agentServices(c *call) error {
	list := []*serviceJSON{}
	if n := s.self(); n != nil {
		for _, i := range n.Instances {
			j := serviceOf(i.Instance)
			j.Datacenter = s.Datacenter
			list = append(list, j)
		}
	}
	list, err := narrowed(c, list)
	if err != nil {
		return err
	}
	out := make(map[string]*serviceJSON, len(list))
	for _, j := range list {
		out[j.ID] = j
	}
	return c.json(http.StatusOK, out)
}

// agentService shows one instance of this node, and blocks by `hash`.
func (s *server) agentService(c *call) error {
	o, err := s.options(c)
	if err != nil {
		return err
	}
	given := c.URL.Query().Get("hash")
	t := time.NewTimer(o.wait)
	defer t.Stop()
	held := false
	for {
		bell, leave := s.View.Listen(registry.Topic{Kind: registry.TopicNode, Name: s.Node})
		i := s.View.Load().Instance(s.Node, c.rest)
		if i == nil {
			leave()
			return fail(http.StatusNotFound, "unknown service ID: %s", clip(c.rest))
		}
		j := serviceOf(i.Instance)
		j.Datacenter = s.Datacenter
		j.ContentHash = contentHash(j)
		late := false
		if given == j.ContentHash {
			if !held {
				select {
				case s.blocking <- struct{}{}:
					held = true
					defer func() { <-s.blocking }()
				default:
					leave()
					return fail(http.StatusTooManyRequests, "more than %d blocking queries at once", s.MaxBlocking)
				}
			}
			select {
			case <-bell:
				leave()
				continue
			case <-t.C:
				late = true
			case <-c.Context().Done():
			}
		}
		leave()
		if err := c.Context().Err(); err != nil && !late {
			return err
		}
		c.w.Header().Set("X-Consul-ContentHash", j.ContentHash)
		return c.json(http.StatusOK, j)
	}
}

func contentHash(j *serviceJSON) string {
	k := *j
	k.CreateIndex, k.ModifyIndex, k.ContentHash = 0, 0, ""
	b, _ := json.Marshal(k) // has no value that JSON cannot write
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

func (s *server) agentChecks(c *call) error {
	list := []*checkJSON{}
	if n := s.self(); n != nil {
		list = nodeChecks(n)
	}
	list, err := narrowed(c, list)
	if err != nil {
		return err
	}
	out := make(map[string]*checkJSON, len(list))
	for _, j := range list {
		out[j.CheckID] = j
	}
	return c.json(http.StatusOK, out)
}

// nodeChecks renders all checks on a node: its own, then those of its instances.
func nodeChecks(n *registry.NodeState) []*checkJSON {
	out := []*checkJSON{}
	for _, k := range n.Checks {
		out = append(out, checkOf(k, nil))
	}
	for _, i := range n.Instances {
		for _, k := range i.Checks {
			if k.InstanceID != "" {
				out = append(out, checkOf(k, i.Instance))
			}
		}
	}
	return out
}

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
