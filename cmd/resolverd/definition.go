package main

import (
	"bytes"
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

// definition is a service to register.
type definition struct {
	instance *registry.Instance
	checks   []*registry.Check
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
}

// definitions returns what the flags or the file say; all faults at once.
func (s *serviceFlags) definitions(flags *pflag.FlagSet, stdin io.Reader) ([]definition, error) {
	if s.file == "" {
		return s.fromFlags()
	}
	var l faultList
	flags.Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "file", "api", "api-token-file", "config", "json":
		default:
			l = append(l, fault{text: fmt.Sprintf("--%s and -f exclude each other", f.Name), hint: "write it into the file"})
		}
	})
	if l != nil {
		return nil, l
	}
	return fromFile(s.file, stdin)
}

func (s *serviceFlags) fromFlags() ([]definition, error) {
	var l faultList
	bad := func(hint, format string, args ...any) {
		l = append(l, fault{text: fmt.Sprintf(format, args...), hint: hint})
	}
	if s.name == "" {
		bad("resolverd service register --name web --port 8080", "--name is missing")
	}
	number := func(flag string, v int) uint16 {
		if v < 0 || v > 65535 {
			bad("", "--%s: %d is out of bounds, 0 to 65535", flag, v)
		}
		return uint16(v)
	}
	i := &registry.Instance{
		Service: s.name, ID: s.id, Tags: s.tags, Zone: s.zone, Meta: map[string]string{},
		Port: number("port", s.port), Priority: number("priority", s.priority),
		Weights: registry.Weights{Passing: number("weight", s.weight), Warning: number("warning-weight", s.warningWeight)},
	}
	if i.ID == "" {
		i.ID = i.Service
	}
	if i.Weights == (registry.Weights{}) {
		bad("resolverd service drain "+i.ID, "--weight and --warning-weight are both 0, which is a drain")
	}
	var err error
	if i.Address, err = registry.ParseHost(s.address); err != nil {
		bad("", "--address: %q is neither an IP address nor a host name", s.address)
	}
	for _, m := range s.meta {
		k, v, ok := strings.Cut(m, "=")
		if !ok || k == "" {
			bad("--meta version=3", "--meta: %q is not of the form KEY=VALUE", m)
		}
		i.Meta[k] = v
	}
	if st := registry.Status(s.status); s.status != "" && !st.Valid() {
		bad("", "--status: %q is none of passing, warning, critical", s.status)
	}
	checks := s.checks(bad)
	if l != nil {
		return nil, l
	}
	return []definition{{i, checks}}, nil
}

func (s *serviceFlags) checks(bad func(hint, format string, args ...any)) []*registry.Check {
	var out []*registry.Check
	add := func(d registry.CheckDefinition) {
		if d.Kind != registry.CheckTTL {
			d.Interval = registry.Duration(s.interval)
		}
		d.Timeout = registry.Duration(s.timeout)
		d.DeregisterCriticalAfter = registry.Duration(s.deregisterAfter)
		out = append(out, &registry.Check{Status: registry.Status(s.status), Definition: &d})
	}
	for _, v := range s.http {
		if !strings.HasPrefix(v, "http://") && !strings.HasPrefix(v, "https://") {
			bad("--check-http http://127.0.0.1:8080/health", "--check-http: %q is no http or https URL", v)
		}
		add(registry.CheckDefinition{Kind: registry.CheckHTTP, URL: v})
	}
	for _, t := range []struct {
		kind registry.CheckKind
		list []string
	}{{registry.CheckTCP, s.tcp}, {registry.CheckUDP, s.udp}, {registry.CheckGRPC, s.grpc}} {
		for _, v := range t.list {
			if !strings.Contains(v, ":") {
				bad(fmt.Sprintf("--check-%s 127.0.0.1:8080", t.kind), "--check-%s: %q is not of the form HOST:PORT", t.kind, v)
			}
			add(registry.CheckDefinition{Kind: t.kind, Target: v})
		}
	}
	for _, v := range s.ttl {
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 {
			bad("--check-ttl 30s", "--check-ttl: %q is no duration", v)
		}
		add(registry.CheckDefinition{Kind: registry.CheckTTL, TTL: registry.Duration(d)})
	}
	for _, v := range s.script {
		args := strings.Fields(v)
		if len(args) == 0 {
			bad("", "--check-script: no command")
		}
		add(registry.CheckDefinition{Kind: registry.CheckScript, Args: args})
	}
	return out
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
			l[i] = fault{text: where + ": " + x.What, hint: x.Hint}
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
		out = append(out, definition{d.Instance, d.Checks})
	}
	return out, nil
}

// wrap puts a service that stands bare, as in Consul's API, below the key that a file
// has; shift is by how many lines that moves it.
func wrap(data []byte) (wrapped []byte, shift int) {
	defer func() {
		// The YAML library has panicked on odd input before; Parse says what is wrong.
		if recover() != nil {
			wrapped, shift = data, 0
		}
	}()
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
