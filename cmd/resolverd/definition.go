package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/resolverd/resolverd/agent/source"
	"github.com/resolverd/resolverd/registry"
)

// definition is a service to register, in the form of PUT /v1/agent/service/register.
type definition struct {
	service, id string
	body        map[string]any
}

// serviceFlags are the flags of `service register`.
type serviceFlags struct {
	file                      string
	name, id, address, zone   string
	port, priority            int
	weight, warningWeight     int
	tags, meta                []string
	http, tcp, udp, grpc, ttl []string
	script                    []string
	interval, timeout         time.Duration
	deregisterAfter           time.Duration
	status                    string
	replaceChecks             bool
}

func (s *serviceFlags) add(f *pflag.FlagSet) {
	f.StringVarP(&s.file, "file", "f", "", "take the definitions from this file, JSON or YAML; - is stdin")
	f.StringVar(&s.name, "name", "", "name of the service")
	f.StringVar(&s.id, "id", "", "id of this instance, unique on the node (default: the name)")
	f.StringVar(&s.address, "address", "", "where it listens (default: the node's address)")
	f.IntVar(&s.port, "port", 0, "its port")
	f.StringSliceVar(&s.tags, "tag", nil, "a tag; may be repeated")
	f.StringArrayVar(&s.meta, "meta", nil, "KEY=VALUE; may be repeated")
	f.IntVar(&s.weight, "weight", 1, "share of the load while passing; 0 drains")
	f.IntVar(&s.warningWeight, "warning-weight", 1, "share of the load while a check warns")
	f.IntVar(&s.priority, "priority", 1, "SRV priority, lower is preferred")
	f.StringVar(&s.zone, "zone", "", "where it stands, when not where the node does")
	f.StringArrayVar(&s.http, "check-http", nil, "URL that must answer 2xx; may be repeated, as all checks")
	f.StringArrayVar(&s.tcp, "check-tcp", nil, "HOST:PORT that must accept a connection")
	f.StringArrayVar(&s.udp, "check-udp", nil, "HOST:PORT that must not refuse a datagram")
	f.StringArrayVar(&s.grpc, "check-grpc", nil, "HOST:PORT[/SERVICE] with the gRPC health protocol")
	f.StringArrayVar(&s.ttl, "check-ttl", nil, "DURATION within which the service reports itself")
	f.StringArrayVar(&s.script, "check-script", nil, "command and arguments, parted by spaces; needs checks.api_scripts")
	f.DurationVar(&s.interval, "check-interval", 0, "time between two runs of each check (default 5s)")
	f.DurationVar(&s.timeout, "check-timeout", 0, "how long a run may take (default 1s)")
	f.DurationVar(&s.deregisterAfter, "deregister-after", 0, "deregister when critical for this long, at least 1s")
	f.StringVar(&s.status, "status", "", "first status of the checks: passing, warning or critical")
	f.BoolVar(&s.replaceChecks, "replace-checks", false, "remove checks of the instance that are not named here")
}

// definitions returns what the flags or the file say; all faults at once.
func (s *serviceFlags) definitions(flags *pflag.FlagSet, stdin io.Reader) ([]definition, error) {
	if s.file == "" {
		return s.fromFlags()
	}
	var l faultList
	flags.Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "file", "api", "api-token-file", "config", "json", "replace-checks":
		default:
			l = append(l, fault{fmt.Sprintf("--%s and -f exclude each other", f.Name), "write it into the file"})
		}
	})
	if l != nil {
		return nil, l
	}
	return fromFile(s.file, stdin)
}

func (s *serviceFlags) fromFlags() ([]definition, error) {
	var l faultList
	bad := func(hint, format string, args ...any) { l = append(l, fault{fmt.Sprintf(format, args...), hint}) }
	if s.name == "" {
		bad("resolverd service register --name web --port 8080", "--name is missing")
	}
	number := func(flag string, v, low int) {
		if v < low || v > 65535 {
			bad("", "--%s: %d is out of bounds, %d to 65535", flag, v, low)
		}
	}
	number("port", s.port, 0)
	number("weight", s.weight, 0)
	number("warning-weight", s.warningWeight, 0)
	number("priority", s.priority, 0)
	if _, err := registry.ParseHost(s.address); err != nil {
		bad("", "--address: %q is neither an IP address nor a host name", s.address)
	}
	meta := map[string]string{}
	for _, m := range s.meta {
		k, v, ok := strings.Cut(m, "=")
		if !ok || k == "" {
			bad("--meta version=3", "--meta: %q is not of the form KEY=VALUE", m)
		}
		meta[k] = v
	}
	if st := registry.Status(s.status); s.status != "" && !st.Valid() {
		bad("", "--status: %q is none of passing, warning, critical", s.status)
	}
	checks := s.checks(bad)
	if l != nil {
		return nil, l
	}
	id := s.id
	if id == "" {
		id = s.name
	}
	body := map[string]any{
		"Name": s.name, "ID": id, "Port": s.port,
		"Weights":  map[string]any{"Passing": s.weight, "Warning": s.warningWeight},
		"Priority": s.priority,
	}
	put(body, "Address", s.address)
	put(body, "Zone", s.zone)
	if len(s.tags) > 0 {
		body["Tags"] = s.tags
	}
	if len(meta) > 0 {
		body["Meta"] = meta
	}
	if len(checks) > 0 {
		body["Checks"] = checks
	}
	return []definition{{s.name, id, body}}, nil
}

func (s *serviceFlags) checks(bad func(hint, format string, args ...any)) []map[string]any {
	var out []map[string]any
	add := func(kind string, v any) map[string]any {
		c := map[string]any{kind: v}
		putDuration(c, "Interval", s.interval)
		putDuration(c, "Timeout", s.timeout)
		putDuration(c, "DeregisterCriticalServiceAfter", s.deregisterAfter)
		put(c, "Status", s.status)
		out = append(out, c)
		return c
	}
	for _, v := range s.http {
		if !strings.HasPrefix(v, "http://") && !strings.HasPrefix(v, "https://") {
			bad("--check-http http://127.0.0.1:8080/health", "--check-http: %q is no http or https URL", v)
		}
		add("HTTP", v)
	}
	for _, t := range []struct {
		kind string
		flag string
		list []string
	}{{"TCP", "check-tcp", s.tcp}, {"UDP", "check-udp", s.udp}, {"GRPC", "check-grpc", s.grpc}} {
		for _, v := range t.list {
			if !strings.Contains(v, ":") {
				bad("--"+t.flag+" 127.0.0.1:8080", "--%s: %q is not of the form HOST:PORT", t.flag, v)
			}
			add(t.kind, v)
		}
	}
	for _, v := range s.ttl {
		if d, err := time.ParseDuration(v); err != nil || d <= 0 {
			bad("--check-ttl 30s", "--check-ttl: %q is no duration", v)
		}
		delete(add("TTL", v), "Interval")
	}
	for _, v := range s.script {
		args := strings.Fields(v)
		if len(args) == 0 {
			bad("", "--check-script: no command")
		}
		add("Args", args)
	}
	return out
}

func put(m map[string]any, key, v string) {
	if v != "" {
		m[key] = v
	}
}

func putDuration(m map[string]any, key string, d time.Duration) {
	if d != 0 {
		m[key] = d.String()
	}
}

// fromFile reads service definitions in our form or in Consul's: a file of services.d,
// or the body of PUT /v1/agent/service/register.
func fromFile(name string, stdin io.Reader) ([]definition, error) {
	in, shown := stdin, "(stdin)"
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, &failure{code: exitUsage, err: err}
		}
		defer f.Close()
		in, shown = f, name
	}
	data, err := io.ReadAll(io.LimitReader(in, source.MaxFile+1))
	if err != nil {
		return nil, &failure{code: exitUsage, err: err}
	}
	data, shift := wrap(data)
	f, err := source.Parse(shown, data)
	var faults source.Faults
	if errors.As(err, &faults) {
		l := make(faultList, len(faults))
		for i, x := range faults {
			where := x.File
			if x.Line > 0 {
				where = fmt.Sprintf("%s:%d", x.File, max(1, x.Line-shift))
			}
			l[i] = fault{where + ": " + x.What, x.Hint}
		}
		return nil, l
	}
	if err != nil {
		return nil, &failure{code: exitUsage, err: err}
	}
	if len(f.Services) == 0 {
		return nil, fail(exitUsage, `write {"service": {"name": "web", "port": 8080}}`, "%s has no service", shown)
	}
	var out []definition
	for _, d := range f.Services {
		body, err := bodyOf(d.Instance, d.Checks)
		if err != nil {
			return nil, err
		}
		out = append(out, definition{d.Instance.Service, d.Instance.ID, body})
	}
	return out, nil
}

// wrap puts a service that stands bare, as in Consul's API, below the key that a file
// has; shift is by how many lines that moves it.
func wrap(data []byte) (wrapped []byte, shift int) {
	var top map[string]yaml.Node
	if yaml.Unmarshal(data, &top) != nil {
		return data, 0 // Parse says what is wrong
	}
	name := false
	for k := range top {
		switch strings.ToLower(k) {
		case "service", "services", "check", "checks":
			// In Consul's API Check and Checks stand beside Name.
			if strings.HasPrefix(strings.ToLower(k), "service") {
				return data, 0
			}
		case "name":
			name = true
		}
	}
	if !name {
		return data, 0
	}
	if t := bytes.TrimSpace(data); t[0] == '{' {
		return append(append([]byte(`{"service": `), data...), '}'), 0
	}
	out := []byte("service:\n")
	for line := range bytes.Lines(data) {
		out = append(append(out, "  "...), line...)
	}
	return out, 1
}

// bodyOf writes an instance and its checks as the API takes them.
func bodyOf(i *registry.Instance, checks []*registry.Check) (map[string]any, error) {
	b := map[string]any{
		"Name": i.Service, "ID": i.ID, "Port": i.Port,
		"Weights": map[string]any{"Passing": i.Weights.Passing, "Warning": i.Weights.Warning},
		"Tags":    i.Tags, "Meta": i.Meta, "EnableTagOverride": i.EnableTagOverride, "Drain": i.Drain,
	}
	put(b, "Address", i.Address.String())
	put(b, "Zone", i.Zone)
	if i.Priority != 0 {
		b["Priority"] = i.Priority
	}
	var ports []map[string]any
	for _, p := range i.Ports {
		ports = append(ports, map[string]any{"Name": p.Name, "Port": p.Port})
	}
	if ports != nil {
		b["Ports"] = ports
	}
	if len(i.Networks) > 0 {
		tagged := map[string]any{}
		for k, e := range i.Networks {
			tagged[k] = map[string]any{"Address": e.Address.String(), "Port": e.Port}
		}
		b["TaggedAddresses"] = tagged
	}
	var list []map[string]any
	for _, c := range checks {
		m, err := checkBody(c)
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	if list != nil {
		b["Checks"] = list
	}
	return b, nil
}

// checkBody writes a check as the API takes it.
func checkBody(c *registry.Check) (map[string]any, error) {
	m := map[string]any{"CheckID": c.ID, "Name": c.Name}
	put(m, "Notes", c.Notes)
	put(m, "Status", string(c.Status))
	d := c.Definition
	if d == nil {
		return m, nil
	}
	// The model's JSON has the API's names but for these: the API takes them with
	// underscores as well.
	raw, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", c.ID, err)
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("check %s: %w", c.ID, err)
	}
	move := func(from, to string) {
		if v, ok := m[from]; ok {
			delete(m, from)
			m[to] = v
		}
	}
	delete(m, "kind")
	move("url", "HTTP")
	move("no_redirects", "DisableRedirects")
	move("deregister_critical_after", "DeregisterCriticalServiceAfter")
	move("alias_instance", "AliasService")
	switch d.Kind {
	case registry.CheckTCP:
		move("target", "TCP")
		move("tls", "TCPUseTLS")
	case registry.CheckUDP:
		move("target", "UDP")
	case registry.CheckGRPC:
		move("target", "GRPC")
		move("tls", "GRPCUseTLS")
	}
	return m, nil
}
