package client

import (
	"github.com/resolverd/resolverd/registry"
)

// definition renders an instance and its checks in Consul's form.
func definition(i *registry.Instance, checks []*registry.Check) map[string]any {
	o := fields{}
	o.text("ID", i.ID)
	o.text("Name", i.Service)
	o.text("Address", i.Address.String())
	o.text("Zone", i.Zone)
	o.number("Port", int(i.Port))
	o.number("Priority", int(i.Priority))
	o.flag("Drain", i.Drain)
	o.flag("EnableTagOverride", i.EnableTagOverride)
	if len(i.Tags) > 0 {
		o["Tags"] = i.Tags
	}
	if len(i.Meta) > 0 {
		o["Meta"] = i.Meta
	}
	if i.Weights != (registry.Weights{}) {
		o["Weights"] = map[string]int{"Passing": int(i.Weights.Passing), "Warning": int(i.Weights.Warning)}
	}
	if len(i.Ports) > 0 {
		var ports []fields
		for _, p := range i.Ports {
			ports = append(ports, fields{"Name": p.Name, "Port": p.Port})
		}
		o["Ports"] = ports
	}
	if len(i.Networks) > 0 {
		m := map[string]fields{}
		for k, e := range i.Networks {
			m[k] = fields{"Address": e.Address.String(), "Port": e.Port}
		}
		o["TaggedAddresses"] = m
	}
	if len(checks) > 0 {
		var list []fields
		for _, k := range checks {
			list = append(list, checkOf(k))
		}
		o["Checks"] = list
	}
	return o
}

func checkOf(k *registry.Check) fields {
	o := fields{}
	o.text("CheckID", k.ID)
	o.text("Name", k.Name)
	o.text("Notes", k.Notes)
	o.text("Status", string(k.Status))
	d := k.Definition
	if d == nil {
		return o
	}
	switch d.Kind {
	case registry.CheckHTTP:
		o.text("HTTP", d.URL)
		o.text("Method", d.Method)
		o.text("Body", d.Body)
		o.flag("DisableRedirects", d.NoRedirects)
		if len(d.Header) > 0 {
			o["Header"] = d.Header
		}
	case registry.CheckTCP:
		o.text("TCP", d.Target)
		o.flag("TCPUseTLS", d.TLS)
	case registry.CheckUDP:
		o.text("UDP", d.Target)
		o.text("Body", d.Body)
	case registry.CheckGRPC:
		o.text("GRPC", d.Target)
		o.flag("GRPCUseTLS", d.TLS)
	case registry.CheckTTL:
		o.span("TTL", d.TTL)
	case registry.CheckScript:
		o["Args"] = d.Args
		o.flag("WarningIsCritical", d.WarningIsCritical)
	case registry.CheckAlias:
		o.text("AliasService", d.AliasInstance)
		o.text("AliasNode", d.AliasNode)
	}
	o.text("TLSServerName", d.TLSServerName)
	o.flag("TLSSkipVerify", d.TLSSkipVerify)
	if d.Kind != registry.CheckTTL {
		o.span("Interval", d.Interval)
	}
	o.span("Timeout", d.Timeout)
	o.span("DeregisterCriticalServiceAfter", d.DeregisterCriticalAfter)
	o.number("SuccessBeforePassing", d.SuccessBeforePassing)
	o.number("FailuresBeforeWarning", d.FailuresBeforeWarning)
	o.number("FailuresBeforeCritical", d.FailuresBeforeCritical)
	return o
}

// fields is a JSON object without what is empty.
type fields map[string]any

func (f fields) text(k, v string) {
	if v != "" {
		f[k] = v
	}
}

func (f fields) number(k string, v int) {
	if v != 0 {
		f[k] = v
	}
}

func (f fields) flag(k string, v bool) {
	if v {
		f[k] = v
	}
}

func (f fields) span(k string, d registry.Duration) {
	if d != 0 {
		f[k] = d.Std().String()
	}
}
