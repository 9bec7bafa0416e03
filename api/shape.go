package api

import (
	"strings"
	"time"

	"github.com/resolverd/resolverd/registry"
)

// The JSON of Consul's replies. Field names are Consul's, as are they in `filter`.

type nodeJSON struct {
	ID              string
	Node            string
	Address         string
	Datacenter      string
	TaggedAddresses map[string]string
	Meta            map[string]string
	CreateIndex     uint64 `bexpr:"-"`
	ModifyIndex     uint64 `bexpr:"-"`
}

type addressJSON struct {
	Address string
	Port    int
}

type portJSON struct {
	Name    string
	Port    int
	Default bool
}

type weightsJSON struct {
	Passing int
	Warning int
}

// serviceJSON is an instance as the agent and health endpoints show it.
type serviceJSON struct {
	Kind              string
	ID                string
	Service           string
	Tags              []string
	Meta              map[string]string
	Port              int
	Ports             []portJSON `json:",omitempty" bexpr:"-"`
	Address           string
	TaggedAddresses   map[string]addressJSON `json:",omitempty"`
	Weights           weightsJSON
	EnableTagOverride bool
	CreateIndex       uint64 `bexpr:"-"`
	ModifyIndex       uint64 `bexpr:"-"`
	ContentHash       string `json:",omitempty" bexpr:"-"`
	Datacenter        string `json:",omitempty" bexpr:"-"`
}

// catalogJSON is an instance as /v1/catalog/service shows it.
type catalogJSON struct {
	ID                       string
	Node                     string
	Address                  string
	Datacenter               string
	TaggedAddresses          map[string]string
	NodeMeta                 map[string]string
	ServiceKind              string
	ServiceID                string
	ServiceName              string
	ServiceTags              []string
	ServiceAddress           string
	ServiceTaggedAddresses   map[string]addressJSON `json:",omitempty"`
	ServiceWeights           weightsJSON
	ServiceMeta              map[string]string
	ServicePort              int
	ServicePorts             []portJSON `json:",omitempty" bexpr:"-"`
	ServiceEnableTagOverride bool
	CreateIndex              uint64 `bexpr:"-"`
	ModifyIndex              uint64 `bexpr:"-"`
}

type checkJSON struct {
	Node        string
	CheckID     string
	Name        string
	Status      string
	Notes       string
	Output      string
	ServiceID   string
	ServiceName string
	ServiceTags []string
	Type        string
	Interval    string
	Timeout     string
	ExposedPort int
	Definition  definitionJSON `bexpr:"-"`
	CreateIndex uint64         `bexpr:"-"`
	ModifyIndex uint64         `bexpr:"-"`
}

type definitionJSON struct {
	HTTP                           string              `json:",omitempty"`
	Header                         map[string][]string `json:",omitempty"`
	Method                         string              `json:",omitempty"`
	Body                           string              `json:",omitempty"`
	TLSServerName                  string              `json:",omitempty"`
	TLSSkipVerify                  bool                `json:",omitempty"`
	TCP                            string              `json:",omitempty"`
	TCPUseTLS                      bool                `json:",omitempty"`
	UDP                            string              `json:",omitempty"`
	GRPC                           string              `json:",omitempty"`
	GRPCUseTLS                     bool                `json:",omitempty"`
	Interval                       string              `json:",omitempty"`
	Timeout                        string              `json:",omitempty"`
	DeregisterCriticalServiceAfter string              `json:",omitempty"`
}

type healthJSON struct {
	Node    *nodeJSON
	Service *serviceJSON
	Checks  []*checkJSON
}

func (s *server) nodeJSON(n *registry.Node) *nodeJSON {
	j := &nodeJSON{
		ID: n.ID, Node: n.Name, Address: n.Address.String(), Datacenter: s.Datacenter,
		TaggedAddresses: map[string]string{}, Meta: orEmpty(n.Meta),
		CreateIndex: n.Created, ModifyIndex: n.Modified,
	}
	if a, ok := n.Address.Addr(); ok {
		family := "_ipv6"
		if a.Is4() {
			family = "_ipv4"
		}
		for _, k := range []string{"lan", "wan"} {
			j.TaggedAddresses[k], j.TaggedAddresses[k+family] = a.String(), a.String()
		}
	}
	for k, h := range n.Networks {
		j.TaggedAddresses[k] = h.String()
	}
	return j
}

func serviceOf(i *registry.Instance) *serviceJSON {
	return &serviceJSON{
		ID: i.ID, Service: i.Service, Tags: orNone(i.Tags), Meta: orEmpty(i.Meta),
		Port: int(i.Port), Ports: portsOf(i.Ports), Address: i.Address.String(), TaggedAddresses: networksOf(i),
		Weights:           weightsOf(i),
		EnableTagOverride: i.EnableTagOverride,
		CreateIndex:       i.Created, ModifyIndex: i.Modified,
	}
}

func (s *server) catalogJSON(i *registry.InstanceState) *catalogJSON {
	n := s.nodeJSON(i.Host)
	return &catalogJSON{
		ID: n.ID, Node: n.Node, Address: n.Address, Datacenter: n.Datacenter,
		TaggedAddresses: n.TaggedAddresses, NodeMeta: n.Meta,
		ServiceID: i.ID, ServiceName: i.Service, ServiceTags: orNone(i.Tags),
		ServiceAddress: i.Address.String(), ServiceTaggedAddresses: networksOf(i.Instance),
		ServiceWeights: weightsOf(i.Instance),
		ServiceMeta:    orEmpty(i.Meta), ServicePort: int(i.Port), ServicePorts: portsOf(i.Ports),
		ServiceEnableTagOverride: i.EnableTagOverride,
		CreateIndex:              i.Created, ModifyIndex: i.Modified,
	}
}

// checkOf renders a check; of is its instance, nil for the node's own.
func checkOf(k *registry.Check, of *registry.Instance) *checkJSON {
	j := &checkJSON{
		Node: k.Node, CheckID: k.ID, Name: k.Name, Status: string(k.Status), Notes: k.Notes,
		Output: k.Output, ServiceID: k.InstanceID, ServiceTags: []string{},
		CreateIndex: k.Created, ModifyIndex: k.Modified,
	}
	if of != nil {
		j.ServiceName, j.ServiceTags = of.Service, orNone(of.Tags)
	}
	if isMaintenance(k.ID) {
		j.Type = "maintenance"
	}
	if d := k.Definition; d != nil {
		j.Type = string(d.Kind)
		j.Interval, j.Timeout = span(d.Interval), span(d.Timeout)
		j.Definition = definitionOf(d)
	}
	return j
}

func definitionOf(d *registry.CheckDefinition) definitionJSON {
	j := definitionJSON{
		HTTP: d.URL, Header: d.Header, Method: d.Method, Body: d.Body,
		TLSServerName: d.TLSServerName, TLSSkipVerify: d.TLSSkipVerify,
		Interval: span(d.Interval), Timeout: span(d.Timeout),
		DeregisterCriticalServiceAfter: span(d.DeregisterCriticalAfter),
	}
	switch d.Kind {
	case registry.CheckTCP:
		j.TCP, j.TCPUseTLS = d.Target, d.TLS
	case registry.CheckUDP:
		j.UDP = d.Target
	case registry.CheckGRPC:
		j.GRPC, j.GRPCUseTLS = d.Target, d.TLS
	}
	return j
}

// checksOf renders an instance's checks, its node's first as Consul has them.
func checksOf(i *registry.InstanceState) []*checkJSON {
	out := make([]*checkJSON, 0, len(i.Checks))
	for _, k := range i.Checks {
		if k.InstanceID == "" {
			out = append(out, checkOf(k, nil))
		}
	}
	for _, k := range i.Checks {
		if k.InstanceID != "" {
			out = append(out, checkOf(k, i.Instance))
		}
	}
	return out
}

// weightsOf shows a drain as what it is to balancers that are fed from here: no weight.
func weightsOf(i *registry.Instance) weightsJSON {
	if i.Drain {
		return weightsJSON{}
	}
	return weightsJSON{int(i.Weights.Passing), int(i.Weights.Warning)}
}

func portsOf(ports []registry.NamedPort) []portJSON {
	var out []portJSON
	for _, p := range ports {
		out = append(out, portJSON{Name: p.Name, Port: int(p.Port)})
	}
	return out
}

func networksOf(i *registry.Instance) map[string]addressJSON {
	if len(i.Networks) == 0 {
		return nil
	}
	m := make(map[string]addressJSON, len(i.Networks))
	for k, e := range i.Networks {
		m[k] = addressJSON{Address: e.Address.String(), Port: int(e.Port)}
	}
	return m
}

func span(d registry.Duration) string {
	if d == 0 {
		return ""
	}
	return time.Duration(d).String()
}

func orNone(tags []string) []string {
	if tags == nil {
		return []string{}
	}
	return tags
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func isMaintenance(id string) bool {
	return id == registry.NodeMaintenance || strings.HasPrefix(id, registry.ServiceMaintenance)
}
