package source

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/resolverd/resolverd/registry"
	"go.yaml.in/yaml/v3"
)

// MaxFile bounds a file, in octets.
const MaxFile = 4 << 20

// Definition is one service of a file, with its checks.
type Definition struct {
	Line int // where it begins
	// Instance has no Node, Owner or Origin yet; its ID is set.
	Instance *registry.Instance
	// Checks have ids and the instance's id, and no Node.
	Checks []*registry.Check

	sum string // what it says, wherever it stands
}

// File is what a file says.
type File struct {
	Services []Definition
	// Checks are those of the node.
	Checks []*registry.Check
	// Notes are keys that were left out.
	Notes Faults

	script int // a line with a script check, 0 without one
}

// Parse reads a file of services in our form or in Consul's, YAML or JSON; name is for
// messages only. The error is of type Faults and holds all that is wrong. Whether the
// values make a valid registration is the catalogue's to say.
func Parse(name string, data []byte) (f *File, err error) {
	defer func() {
		// The YAML library has panicked on odd input before; a file must not end the agent.
		if p := recover(); p != nil {
			f, err = nil, Faults{{File: name, What: fmt.Sprintf("cannot be read as YAML: %v", p)}}
		}
	}()
	if len(data) > MaxFile {
		return nil, Faults{{File: name, What: fmt.Sprintf("has %d octets, at most %d are read", len(data), MaxFile)}}
	}
	top, err := tree(name, data)
	if err != nil {
		return nil, err
	}
	d := &decoder{file: name, out: &File{}}
	root := d.follow(top)
	if root == nil {
		return nil, empty(name)
	}
	d.root(root)
	if len(d.faults) > 0 {
		return nil, d.faults.sorted()
	}
	d.out.Notes = d.notes.sorted()
	for n := range d.out.Services {
		d.out.Services[n].sum = d.out.Services[n].hash()
	}
	return d.out, nil
}

// tree reads the file without regard to what it says.
func tree(name string, data []byte) (*yaml.Node, error) {
	if json.Valid(data) {
		n, err := jsonTree(data)
		if err != nil {
			return nil, Faults{{File: name, What: err.Error()}}
		}
		return n, nil
	}
	var doc, more yaml.Node
	y := yaml.NewDecoder(bytes.NewReader(data))
	switch err := y.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, empty(name)
	case err != nil:
		return nil, Faults{syntax(name, err)}
	}
	switch err := y.Decode(&more); {
	case err == nil:
		return nil, Faults{{name, more.Line, "a second document in one file", "write one list of services"}}
	case !errors.Is(err, io.EOF):
		return nil, Faults{syntax(name, err)}
	}
	return doc.Content[0], nil
}

// empty is a fault, since an editor that has just truncated a file must not undo what
// it says.
func empty(name string) Faults {
	return Faults{{File: name, What: "is empty", Hint: "write services: [] or remove the file"}}
}

func (d *decoder) root(n *yaml.Node) {
	var one, many, check, checks *yaml.Node
	keep := func(to **yaml.Node) func(*yaml.Node) { return func(n *yaml.Node) { *to = n } }
	if n.Kind == yaml.MappingNode && lone(n) {
		d.fault(n, `write it below "service:"`, "the keys of a service stand at the top of the file")
		return
	}
	d.object(n, "file", fields{"service": keep(&one), "services": keep(&many), "check": keep(&check), "checks": keep(&checks)}, fileKeys)
	if one != nil {
		d.service(one)
	}
	if many != nil {
		d.list(many, "services", d.service)
	}
	d.out.Checks = d.checks(check, checks, nil)
	seen := map[string]int{}
	for _, s := range d.out.Services {
		if first, twice := seen[s.Instance.ID]; twice {
			d.fault(&yaml.Node{Line: s.Line}, "give one of them another id", "service id %q is on line %d already", clip(s.Instance.ID), first)
		}
		seen[s.Instance.ID] = s.Line
	}
}

// lone reports whether a mapping is a service without the key that should hold it.
func lone(n *yaml.Node) bool {
	named, placed := false, false
	for i := 0; i+1 < len(n.Content); i += 2 {
		switch canonical(n.Content[i].Value) {
		case "service", "services":
			return false
		case "name":
			named = true
		case "port", "address", "tags", "check", "checks":
			placed = true
		}
	}
	return named && placed
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntax is the library's error as a fault with its line.
func syntax(name string, err error) Fault {
	text := err.Error()
	f := Fault{File: name}
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		f.Line, _ = strconv.Atoi(m[1]) // no line is 0
		text = text[len(m[0]):]
	}
	f.What = "not valid YAML or JSON: " + strings.TrimSpace(text)
	return f
}

// hash names what a definition says, wherever it stands.
func (s *Definition) hash() string {
	h := sha256.New()
	i := *s.Instance
	i.Origin = ""
	h.Write(registry.Encode(&i))
	for _, c := range s.Checks {
		h.Write(registry.Encode(c))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
