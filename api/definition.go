package api

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/resolverd/resolverd/registry"
)

// instance reads a service definition in Consul's form. Zone, Priority and Drain are
// ours.
func (o object) instance(nameField string) *registry.Instance {
	i := &registry.Instance{
		ID: o.str("ID"), Service: o.str(nameField),
		Tags: o.list("Tags"), Meta: o.texts("Meta"),
		Address: o.host("Address"), Port: uint16(o.number("Port", 0, 65535, 0)),
		Ports: o.ports(), Networks: o.networks(), Weights: o.weights(),
		EnableTagOverride: o.boolean("EnableTagOverride"),
		Zone:              o.str("Zone"), Priority: uint16(o.number("Priority", 0, 65535, 0)),
		Drain: o.boolean("Drain"),
	}
	if kind := o.str("Kind"); kind != "" && kind != "typical" {
		o.fault("Kind", kind, "only typical services are known, there is no mesh here")
	}
	if p := o.str("SocketPath"); p != "" {
		o.fault("SocketPath", p, "a service is reached by address and port")
	}
	// A default among the named ports stands for the port where there is none.
	if i.Port == 0 {
		for n, p := range o.children("Ports") {
			if n < len(i.Ports) && p.boolean("Default") {
				i.Port = i.Ports[n].Port
			}
		}
	}
	return i
}

func (o object) ports() []registry.NamedPort {
	var out []registry.NamedPort
	for _, p := range o.children("Ports") {
		out = append(out, registry.NamedPort{Name: p.str("Name"), Port: uint16(p.number("Port", 0, 65535, 0))})
	}
	return out
}

func (o object) weights() registry.Weights {
	w := registry.DefaultWeights
	if x, ok := o.child("Weights"); ok {
		w.Passing = uint16(x.number("Passing", 0, 65535, int(w.Passing)))
		w.Warning = uint16(x.number("Warning", 0, 65535, int(w.Warning)))
	}
	return w
}

func (o object) networks() map[string]registry.Endpoint {
	m := o.raw("TaggedAddresses")
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]registry.Endpoint, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		field := "TaggedAddresses." + clip(k)
		x, ok := m[k].(map[string]any)
		if !ok {
			o.fault(field, m[k], "must be an object with Address and Port")
			continue
		}
		e := newObject(x, o.path+field+".", o.bad)
		out[k] = registry.Endpoint{Address: e.host("Address"), Port: uint16(e.number("Port", 0, 65535, 0))}
	}
	return out
}

// checks reads Check and Checks of a service definition.
func (s *server) checks(o object, instance string) ([]*registry.Check, error) {
	list := o.children("Checks")
	if one, ok := o.child("Check"); ok && len(one.fields) > 0 {
		list = append([]object{one}, list...)
	}
	var out []*registry.Check
	for _, x := range list {
		k, err := s.check(x)
		if err != nil {
			return nil, err
		}
		k.InstanceID = instance
		out = append(out, k)
	}
	return out, nil
}

// check reads one check that an agent is to run.
func (s *server) check(o object) (*registry.Check, error) {
	k := &registry.Check{
		ID: o.str("CheckID", "ID"), Name: o.str("Name"), Notes: o.str("Notes"),
		InstanceID: o.str("ServiceID"), Status: o.status(),
	}
	var err error
	k.Definition, err = s.probe(o)
	return k, err
}

func (o object) status() registry.Status {
	v := registry.Status(strings.ToLower(o.str("Status")))
	if v != "" && !v.Valid() {
		o.fault("Status", string(v), "must be passing, warning or critical")
		return ""
	}
	return v
}

// kindFields are the fields of which a check has exactly one.
var kindFields = []struct {
	name string
	also []string
	kind registry.CheckKind // "" where we have no such check
	hint string
}{
	{name: "HTTP", kind: registry.CheckHTTP},
	{name: "TCP", kind: registry.CheckTCP},
	{name: "UDP", kind: registry.CheckUDP},
	{name: "GRPC", kind: registry.CheckGRPC},
	{name: "TTL", kind: registry.CheckTTL},
	{name: "Args", also: []string{"ScriptArgs"}, kind: registry.CheckScript},
	{name: "AliasService", also: []string{"AliasNode"}, kind: registry.CheckAlias},
	{name: "Script", hint: "is a shell line; give the command as Args"},
	{name: "H2PING", hint: "is not supported; use HTTP, TCP or GRPC"},
	{name: "OSService", hint: "is not supported; use Args"},
	{name: "DockerContainerID", hint: "docker checks are not taken over the API; put a script check into a file in services.d"},
}

const oneKind = "a check needs exactly one of HTTP, TCP, UDP, GRPC, TTL, Args or AliasService"

// probe reads what a check does.
func (s *server) probe(o object) (*registry.CheckDefinition, error) {
	d := &registry.CheckDefinition{
		Interval: o.span("Interval"), Timeout: o.span("Timeout"),
		DeregisterCriticalAfter: o.span("DeregisterCriticalServiceAfter"),
		SuccessBeforePassing:    o.number("SuccessBeforePassing", 0, 1000, 0),
		FailuresBeforeWarning:   o.number("FailuresBeforeWarning", 0, 1000, 0),
		FailuresBeforeCritical:  o.number("FailuresBeforeCritical", 0, 1000, 0),
		TLSServerName:           o.str("TLSServerName"), TLSSkipVerify: o.boolean("TLSSkipVerify"),
	}
	var given []string
	for _, f := range kindFields {
		if !o.filled(append([]string{f.name}, f.also...)) {
			continue
		}
		if f.kind == "" {
			v, _ := o.get(f.name)
			o.fault(f.name, v, f.hint)
			return d, nil
		}
		given = append(given, f.name)
		d.Kind = f.kind
	}
	if len(given) != 1 {
		at, hint := "Kind", oneKind
		if len(given) > 1 {
			hint += ", not " + strings.Join(given, " and ")
		}
		o.fault(at, nil, hint)
		return d, nil
	}
	switch d.Kind {
	case registry.CheckHTTP:
		d.URL, d.Method, d.Header, d.Body = o.str("HTTP"), o.str("Method"), o.header("Header"), o.str("Body")
		d.NoRedirects = o.boolean("DisableRedirects")
	case registry.CheckTCP:
		d.Target, d.TLS = o.str("TCP"), o.boolean("TCPUseTLS")
	case registry.CheckUDP:
		d.Target, d.Body = o.str("UDP"), o.str("Body")
	case registry.CheckGRPC:
		d.Target, d.TLS = o.str("GRPC"), o.boolean("GRPCUseTLS")
	case registry.CheckTTL:
		d.TTL = o.span("TTL")
		if d.Interval != 0 {
			o.fault("Interval", d.Interval.Std(), "a ttl check is not run and has no interval")
		}
	case registry.CheckAlias:
		d.AliasInstance, d.AliasNode = o.str("AliasService"), o.str("AliasNode")
	case registry.CheckScript:
		d.Args, d.WarningIsCritical = o.list("Args", "ScriptArgs"), o.boolean("WarningIsCritical")
		if !s.AllowScripts {
			return d, fail(http.StatusForbidden, "%sArgs: script checks are not taken over the API: put the service into a file in services.d, or set checks.api_scripts, which needs an API token", o.path)
		}
	}
	return d, nil
}

// filled reports whether one of the fields is there and not empty.
func (o object) filled(names []string) bool {
	for _, n := range names {
		switch v, _ := o.get(n); x := v.(type) {
		case nil:
		case string:
			if x != "" {
				return true
			}
		case []any:
			if len(x) > 0 {
				return true
			}
		default:
			if fmt.Sprint(x) != "0" {
				return true
			}
		}
	}
	return false
}
