package catalog

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/resolverd/resolverd/registry"
)

// Bounds of what is stored. They keep one registration small enough for one write and
// far below a relay frame's limit.
const (
	MaxName   = 255 // octets of a node's or service's name
	MaxID     = 512 // octets of an instance's or check's id
	MaxTags   = 256
	MaxTag    = 1024
	MaxMeta   = 64 // pairs
	MaxKey    = 128
	MaxValue  = 512
	MaxPorts  = 64
	MaxChecks = 64   // in one registration
	MaxNotes  = 1024 // octets of a check's notes, or of a reason
	MaxOutput = 4096 // octets of a check's output; more is cut
	MaxBody   = 8192 // octets of a URL, a body, a header or a command

	MinInterval = 100 * time.Millisecond
	MaxInterval = 24 * time.Hour
	MaxTimeout  = 10 * time.Minute
	MinTTL      = 100 * time.Millisecond
	MaxTTL      = 30 * 24 * time.Hour
	// MinDeregister is the shortest deregister_critical_after.
	MinDeregister = time.Second
	maxThreshold  = 1000
)

// text checks a string that names something: not empty, bounded, without control
// characters. That it is no DNS label is no fault.
func (e *Invalid) text(field, v string, limit int) {
	switch {
	case v == "":
		e.Add(field, nil, "must not be empty")
	case len(v) > limit:
		e.Add(field, v, fmt.Sprintf("is %d octets long, at most %d are allowed", len(v), limit))
	case !printable(v):
		e.Add(field, v, "must be UTF-8 text without control characters")
	}
}

// bounded checks a string that may be empty and may have line breaks.
func (e *Invalid) bounded(field, v string, limit int) {
	if len(v) > limit {
		e.Add(field, v, fmt.Sprintf("is %d octets long, at most %d are allowed", len(v), limit))
	} else if !utf8.ValidString(v) {
		e.Add(field, v, "must be UTF-8 text")
	}
}

func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0
}

func (e *Invalid) meta(field string, m map[string]string) {
	if len(m) > MaxMeta {
		e.Add(field, nil, fmt.Sprintf("has %d pairs, at most %d are allowed", len(m), MaxMeta))
		return
	}
	for k, v := range m {
		e.text(field+" key", k, MaxKey)
		e.bounded(field+"."+cut(k, 32), v, MaxValue)
	}
}

func (e *Invalid) node(n *registry.Node) {
	e.text("Node", n.Name, MaxName)
	if n.Address.IsZero() {
		e.Add("Address", nil, "a node needs an IP address or a host name")
	}
	if len(n.ID) > 64 {
		e.Add("ID", n.ID, "must be a UUID or empty")
	}
	if len(n.Networks) > MaxMeta {
		e.Add("TaggedAddresses", nil, fmt.Sprintf("has %d entries, at most %d are allowed", len(n.Networks), MaxMeta))
	}
	for k := range n.Networks {
		e.text("TaggedAddresses key", k, MaxKey)
	}
	e.meta("NodeMeta", n.Meta)
	e.bounded("Zone", n.Zone, MaxName)
}

func (e *Invalid) instance(i *registry.Instance) {
	e.text("Name", i.Service, MaxName)
	e.text("ID", i.ID, MaxID)
	if len(i.Tags) > MaxTags {
		e.Add("Tags", nil, fmt.Sprintf("has %d tags, at most %d are allowed", len(i.Tags), MaxTags))
	} else {
		for n, t := range i.Tags {
			e.bounded(fmt.Sprintf("Tags[%d]", n), t, MaxTag)
		}
	}
	e.meta("Meta", i.Meta)
	if len(i.Ports) > MaxPorts {
		e.Add("Ports", nil, fmt.Sprintf("has %d ports, at most %d are allowed", len(i.Ports), MaxPorts))
	} else {
		e.ports(i.Ports)
	}
	if len(i.Networks) > MaxMeta {
		e.Add("TaggedAddresses", nil, fmt.Sprintf("has %d entries, at most %d are allowed", len(i.Networks), MaxMeta))
	}
	for k := range i.Networks {
		e.text("TaggedAddresses key", k, MaxKey)
	}
	e.bounded("Zone", i.Zone, MaxName)
	e.bounded("Origin", i.Origin, MaxBody)
}

func (e *Invalid) ports(ports []registry.NamedPort) {
	seen := map[string]bool{}
	for n, p := range ports {
		f := fmt.Sprintf("Ports[%d]", n)
		e.text(f+".Name", p.Name, MaxName)
		if p.Port == 0 {
			e.Add(f+".Port", "0", "must be 1 to 65535")
		}
		if k := registry.Fold(p.Name); seen[k] {
			e.Add(f+".Name", p.Name, "is named twice")
		} else {
			seen[k] = true
		}
	}
}

func (e *Invalid) check(at string, c *registry.Check) {
	e.text(at+"CheckID", c.ID, MaxID)
	if c.ID == registry.NodeMaintenance || strings.HasPrefix(c.ID, registry.ServiceMaintenance) {
		e.Add(at+"CheckID", c.ID, "is kept for maintenance mode")
	}
	e.bounded(at+"Name", c.Name, MaxID)
	e.bounded(at+"Notes", c.Notes, MaxNotes)
	if c.Status != "" && !c.Status.Valid() {
		e.Add(at+"Status", string(c.Status), "must be passing, warning or critical")
	}
	if c.Definition != nil {
		e.definition(at, c.Definition)
	}
}

func (e *Invalid) definition(at string, d *registry.CheckDefinition) {
	e.probe(at, d)
	e.bounded(at+"Body", d.Body, MaxBody)
	e.bounded(at+"TLSServerName", d.TLSServerName, MaxName)
	e.bounded(at+"AliasService", d.AliasInstance, MaxID)
	e.bounded(at+"AliasNode", d.AliasNode, MaxName)
	e.span(at+"Interval", d.Interval, MinInterval, MaxInterval)
	e.span(at+"Timeout", d.Timeout, time.Millisecond, MaxTimeout)
	if d.DeregisterCriticalAfter != 0 && d.DeregisterCriticalAfter.Std() < MinDeregister {
		e.Add(at+"DeregisterCriticalServiceAfter", d.DeregisterCriticalAfter.Std(), "must be at least "+MinDeregister.String())
	}
	for _, t := range []struct {
		name string
		n    int
	}{
		{"SuccessBeforePassing", d.SuccessBeforePassing},
		{"FailuresBeforeWarning", d.FailuresBeforeWarning},
		{"FailuresBeforeCritical", d.FailuresBeforeCritical},
	} {
		if t.n < 0 || t.n > maxThreshold {
			e.Add(at+t.name, t.n, fmt.Sprintf("must be 0 to %d", maxThreshold))
		}
	}
}

// span checks a duration that may be left out.
func (e *Invalid) span(field string, d registry.Duration, low, high time.Duration) {
	if d != 0 && (d.Std() < low || d.Std() > high) {
		e.Add(field, d.Std(), fmt.Sprintf("must be %v to %v", low, high))
	}
}

// probe checks what a definition's kind needs.
func (e *Invalid) probe(at string, d *registry.CheckDefinition) {
	switch d.Kind {
	case registry.CheckHTTP:
		e.httpProbe(at, d)
	case registry.CheckTCP:
		e.target(at+"TCP", d.Target)
	case registry.CheckUDP:
		e.target(at+"UDP", d.Target)
	case registry.CheckGRPC:
		hostport, _, _ := strings.Cut(d.Target, "/")
		e.target(at+"GRPC", hostport)
	case registry.CheckScript:
		e.command(at, d.Args)
	case registry.CheckTTL:
		if d.TTL.Std() < MinTTL || d.TTL.Std() > MaxTTL {
			e.Add(at+"TTL", d.TTL.Std(), fmt.Sprintf("must be %v to %v", MinTTL, MaxTTL))
		}
	case registry.CheckAlias:
		if d.AliasNode == "" && d.AliasInstance == "" {
			e.Add(at+"AliasService", nil, "an alias check names an instance, a node, or both")
		}
	default:
		e.Add(at+"Kind", string(d.Kind), "a check needs exactly one of HTTP, TCP, UDP, GRPC, TTL, Args or AliasService")
	}
}

func (e *Invalid) httpProbe(at string, d *registry.CheckDefinition) {
	u, err := url.Parse(d.URL)
	switch {
	case len(d.URL) > MaxBody:
		e.Add(at+"HTTP", d.URL, fmt.Sprintf("at most %d octets are allowed", MaxBody))
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		e.Add(at+"HTTP", d.URL, "must be a URL such as http://127.0.0.1:8080/health")
	}
	if strings.ContainsFunc(d.Method, func(r rune) bool { return r <= ' ' || r >= 0x7f }) || len(d.Method) > 32 {
		e.Add(at+"Method", d.Method, "must be an HTTP method")
	}
	size := 0
	for k, vs := range d.Header {
		size += len(k)
		for _, v := range vs {
			size += len(v)
			if strings.ContainsAny(k+v, "\r\n\x00") {
				e.Add(at+"Header", k, "must have no line breaks")
			}
		}
	}
	if size > MaxBody {
		e.Add(at+"Header", nil, fmt.Sprintf("has %d octets, at most %d are allowed", size, MaxBody))
	}
}

func (e *Invalid) command(at string, args []string) {
	size := 0
	for _, a := range args {
		size += len(a)
	}
	switch {
	case len(args) == 0 || args[0] == "":
		e.Add(at+"Args", nil, "a script check needs a command")
	case len(args) > MaxTags || size > MaxBody:
		e.Add(at+"Args", nil, fmt.Sprintf("at most %d arguments and %d octets are allowed", MaxTags, MaxBody))
	case strings.ContainsRune(strings.Join(args, ""), 0):
		e.Add(at+"Args", nil, "must have no NUL")
	}
}

func (e *Invalid) target(field, v string) {
	host, port, err := net.SplitHostPort(v)
	if err == nil {
		_, err = registry.ParseHost(host)
	}
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || len(v) > MaxID {
		e.Add(field, v, "must be host:port with a port of 1 to 65535")
	}
}
