package source

import (
	"strconv"

	"github.com/resolverd/resolverd/registry"
	"go.yaml.in/yaml/v3"
)

// Names of the keys, as the documentation writes them, for "did you mean".
var (
	fileKeys    = []string{"service", "services", "check", "checks"}
	serviceKeys = []string{"name", "id", "tags", "meta", "address", "port", "ports", "networks", "tagged_addresses",
		"weights", "priority", "zone", "drain", "enable_tag_override", "check", "checks"}
	checkKeys = []string{"id", "check_id", "name", "notes", "status", "http", "tcp", "udp", "grpc", "args", "ttl",
		"alias_service", "alias_node", "method", "header", "body", "disable_redirects", "tls_server_name",
		"tls_skip_verify", "tcp_use_tls", "grpc_use_tls", "interval", "timeout", "success_before_passing",
		"failures_before_warning", "failures_before_critical", "deregister_critical_after",
		"deregister_critical_service_after", "warning_is_critical"}
)

const noMesh = "resolverd has no service mesh, ACLs or partitions"

// service reads one service with its checks.
func (d *decoder) service(n *yaml.Node) {
	i := &registry.Instance{Weights: registry.DefaultWeights}
	s := Definition{Line: n.Line, Instance: i}
	var one *yaml.Node // checks come when the id is known
	var many *yaml.Node
	ignore := d.ignore
	d.object(n, "service", fields{
		"name": d.text("name", &i.Service), "service": d.text("service", &i.Service), "id": d.text("id", &i.ID),
		"tags":              d.texts("tags", &i.Tags),
		"meta":              func(n *yaml.Node) { i.Meta = d.meta(n) },
		"address":           d.host("address", &i.Address),
		"port":              number(d, "port", 0, 65535, &i.Port),
		"ports":             func(n *yaml.Node) { d.ports(n, i) },
		"networks":          func(n *yaml.Node) { i.Networks = d.networks(n, "networks") },
		"taggedaddresses":   func(n *yaml.Node) { i.Networks = d.networks(n, "tagged_addresses") },
		"weights":           func(n *yaml.Node) { d.weights(n, &i.Weights) },
		"priority":          number(d, "priority", 0, 65535, &i.Priority),
		"zone":              d.text("zone", &i.Zone),
		"drain":             d.flag("drain", &i.Drain),
		"enabletagoverride": d.flag("enable_tag_override", &i.EnableTagOverride),
		"check":             func(n *yaml.Node) { one = n },
		"checks":            func(n *yaml.Node) { many = n },
		"kind":              ignore("kind", noMesh), "connect": ignore("connect", noMesh), "proxy": ignore("proxy", noMesh),
		"token": ignore("token", noMesh), "namespace": ignore("namespace", noMesh), "partition": ignore("partition", noMesh),
		"locality":   ignore("locality", "use zone"),
		"socketpath": d.refuse("socket_path", "register an address and a port"),
	}, serviceKeys)
	if i.Service == "" {
		d.fault(n, "name: web", "a service needs a name")
		return
	}
	if i.ID == "" {
		i.ID = i.Service
	}
	s.Checks = d.checks(one, many, i)
	d.out.Services = append(d.out.Services, s)
}

func (d *decoder) meta(n *yaml.Node) map[string]string {
	m := map[string]string{}
	d.pairs(n, "meta", func(k string, v *yaml.Node) {
		s := ""
		d.text("meta "+clip(k), &s)(v)
		m[k] = s
	})
	return m
}

func (d *decoder) weights(n *yaml.Node, w *registry.Weights) {
	d.object(n, "weights", fields{
		"passing": number(d, "weights.passing", 0, 65535, &w.Passing),
		"warning": number(d, "weights.warning", 0, 65535, &w.Warning),
	}, []string{"passing", "warning"})
}

// ports reads named ports: a mapping of names to ports, or Consul's list.
func (d *decoder) ports(n *yaml.Node, i *registry.Instance) {
	if n.Kind == yaml.MappingNode {
		d.pairs(n, "ports", func(k string, v *yaml.Node) {
			p := registry.NamedPort{Name: k}
			number(d, "port "+clip(k), 1, 65535, &p.Port)(v)
			i.Ports = append(i.Ports, p)
		})
		return
	}
	d.list(n, "ports", func(n *yaml.Node) {
		p, chosen := registry.NamedPort{}, false
		d.object(n, "port", fields{
			"name": d.text("name", &p.Name), "port": number(d, "port", 1, 65535, &p.Port), "default": d.flag("default", &chosen),
		}, []string{"name", "port", "default"})
		i.Ports = append(i.Ports, p)
		if chosen && i.Port == 0 {
			i.Port = p.Port
		}
	})
}

// networks reads addresses by name, each a mapping of address and port or an address.
func (d *decoder) networks(n *yaml.Node, what string) map[string]registry.Endpoint {
	m := map[string]registry.Endpoint{}
	d.pairs(n, what, func(k string, v *yaml.Node) {
		var e registry.Endpoint
		if v.Kind == yaml.ScalarNode {
			d.host(what+" "+clip(k), &e.Address)(v)
		} else {
			d.object(v, what+" "+clip(k), fields{
				"address": d.host("address", &e.Address), "port": number(d, "port", 0, 65535, &e.Port),
			}, []string{"address", "port"})
		}
		m[k] = e
	})
	return m
}

// checks reads what check and checks say, either of which may be nil; i is nil for
// checks of the node. Ids are given as Consul gives them.
func (d *decoder) checks(one, many *yaml.Node, i *registry.Instance) []*registry.Check {
	var out []*registry.Check
	each := func(n *yaml.Node) {
		if c := d.check(n, i); c != nil {
			out = append(out, c)
		}
	}
	for _, n := range []*yaml.Node{one, many} {
		switch {
		case n == nil:
		case n.Kind == yaml.SequenceNode:
			d.list(n, "checks", each)
		default:
			each(n)
		}
	}
	for at, c := range out {
		switch {
		case c.ID != "":
		case i == nil:
			c.ID = c.Name
		case len(out) == 1:
			c.ID = "service:" + i.ID
		default:
			c.ID = "service:" + i.ID + ":" + strconv.Itoa(at+1)
		}
	}
	return out
}

// check reads one check.
func (d *decoder) check(n *yaml.Node, i *registry.Instance) *registry.Check {
	def := &registry.CheckDefinition{}
	c := &registry.Check{Definition: def}
	if i != nil {
		c.InstanceID = i.ID
	} else {
		c.Owner = registry.OwnerFile
	}
	before := len(d.faults)
	var kinds []registry.CheckKind
	status := ""
	kind := func(k registry.CheckKind, read func(*yaml.Node)) func(*yaml.Node) {
		return func(n *yaml.Node) {
			if n.Value == "" && len(n.Content) == 0 {
				return // Consul's JSON has empty ones
			}
			if len(kinds) == 0 || kinds[len(kinds)-1] != k {
				kinds = append(kinds, k)
			}
			read(n)
		}
	}
	id := d.text("id", &c.ID)
	args := kind(registry.CheckScript, d.texts("args", &def.Args))
	alias := kind(registry.CheckAlias, d.text("alias_service", &def.AliasInstance))
	after := d.duration("deregister_critical_after", &def.DeregisterCriticalAfter)
	redirects := d.flag("disable_redirects", &def.NoRedirects)
	tls := d.flag("tls", &def.TLS)
	d.object(n, "check", fields{
		"id": id, "checkid": id, "name": d.text("name", &c.Name), "notes": d.text("notes", &c.Notes),
		"status": d.text("status", &status),
		"http":   kind(registry.CheckHTTP, d.text("http", &def.URL)),
		"tcp":    kind(registry.CheckTCP, d.text("tcp", &def.Target)),
		"udp":    kind(registry.CheckUDP, d.text("udp", &def.Target)),
		"grpc":   kind(registry.CheckGRPC, d.text("grpc", &def.Target)),
		"args":   args, "scriptargs": args,
		"ttl":          kind(registry.CheckTTL, d.duration("ttl", &def.TTL)),
		"aliasservice": alias, "aliasinstance": alias,
		"aliasnode":         kind(registry.CheckAlias, d.text("alias_node", &def.AliasNode)),
		"method":            d.text("method", &def.Method),
		"header":            func(n *yaml.Node) { def.Header = d.header(n) },
		"body":              d.text("body", &def.Body),
		"disableredirects":  redirects,
		"noredirects":       redirects,
		"tlsservername":     d.text("tls_server_name", &def.TLSServerName),
		"tlsskipverify":     d.flag("tls_skip_verify", &def.TLSSkipVerify),
		"tcpusetls":         tls,
		"grpcusetls":        tls,
		"warningiscritical": d.flag("warning_is_critical", &def.WarningIsCritical),
		"interval":          d.duration("interval", &def.Interval), "timeout": d.duration("timeout", &def.Timeout),
		"successbeforepassing":           number(d, "success_before_passing", 0, 1000, &def.SuccessBeforePassing),
		"failuresbeforewarning":          number(d, "failures_before_warning", 0, 1000, &def.FailuresBeforeWarning),
		"failuresbeforecritical":         number(d, "failures_before_critical", 0, 1000, &def.FailuresBeforeCritical),
		"deregistercriticalafter":        after,
		"deregistercriticalserviceafter": after,
		"serviceid":                      d.refuse("service_id", "write the check below its service"),
		"script":                         d.refuse("script", `write args: ["/bin/sh", "-c", "..."]`),
		"shell":                          d.refuse("shell", `write args: ["/bin/sh", "-c", "..."]`),
		"dockercontainerid":              d.refuse("docker_container_id", ""),
		"h2ping":                         d.refuse("h2ping", "use tcp or grpc"),
		"h2pingusetls":                   d.ignore("h2ping_use_tls", "there is no h2ping"),
		"osservice":                      d.refuse("os_service", `use args: ["systemctl", "is-active", "--quiet", "NAME"]`),
		"token":                          d.ignore("token", noMesh), "namespace": d.ignore("namespace", noMesh), "partition": d.ignore("partition", noMesh),
		"outputmaxsize": d.ignore("output_max_size", "an output has 4096 octets at most"),
		"exposedport":   d.ignore("exposed_port", noMesh),
	}, checkKeys)
	switch c.Status = registry.Status(registry.Fold(status)); {
	case status != "" && !c.Status.Valid():
		d.fault(n, "passing, warning or critical", "status cannot be %q", clip(status))
	case len(kinds) == 0 && len(d.faults) == before:
		d.fault(n, "one of http, tcp, udp, grpc, args, ttl, alias_service", "a check needs a kind")
	case len(kinds) > 1:
		d.fault(n, "write two checks", "a check cannot be both %s and %s", kinds[0], kinds[1])
	case i == nil && c.ID == "" && c.Name == "":
		d.fault(n, "id: disk", "a check of the node needs an id or a name")
	}
	if len(kinds) > 0 {
		def.Kind = kinds[0]
	}
	if def.Kind == registry.CheckScript {
		d.out.script = max(d.out.script, n.Line)
	}
	return c
}

// header reads header fields: a mapping of a name to a value or a list of values.
func (d *decoder) header(n *yaml.Node) map[string][]string {
	m := map[string][]string{}
	d.pairs(n, "header", func(k string, v *yaml.Node) {
		var values []string
		if v.Kind == yaml.SequenceNode {
			d.texts("header "+clip(k), &values)(v)
		} else {
			s := ""
			d.text("header "+clip(k), &s)(v)
			values = []string{s}
		}
		m[k] = values
	})
	return m
}
