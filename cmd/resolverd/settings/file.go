package settings

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds resolverd.yaml.
const maxFile = 1 << 20

// file is what resolverd.yaml says: the text of each scalar with its line.
type file struct {
	path   string
	values map[string]value // by dotted key
	meta   map[string]string
	// metaLine is the line of node.meta, 0 where it is not there.
	metaLine int
	faults   Faults
}

type value struct {
	text string
	line int
}

func (f *file) at(line int) string { return f.path + ":" + strconv.Itoa(line) }

func (f *file) fault(line int, key, text, hint string) {
	f.faults = append(f.faults, Fault{Where: f.at(line), Key: key, Text: text, Hint: hint})
}

// readFile reads path. What it cannot make sense of is in faults; the error is that
// the file cannot be read at all.
func readFile(path string) (*file, error) {
	f := &file{path: path, values: map[string]value{}}
	if path == "" {
		return f, nil
	}
	r, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		f.fault(1, "", "the file is larger than 1 MiB", "")
		return f, nil
	}
	dec := yaml.NewDecoder(strings.NewReader(string(b)))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return f, nil
	case err != nil:
		line, text := yamlError(err)
		f.fault(line, "", text, "")
		return f, nil
	}
	var second yaml.Node
	if dec.Decode(&second) == nil {
		f.fault(second.Line, "", "a second document; everything belongs into one", "take out the line ---")
	}
	f.walk("", doc.Content[0])
	return f, nil
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

func yamlError(err error) (int, string) {
	m := yamlLine.FindStringSubmatch(strings.ReplaceAll(err.Error(), "\n", " "))
	if m == nil {
		return 1, err.Error()
	}
	line, _ := strconv.Atoi(m[1])
	return max(1, line), "yaml: " + m[2]
}

// sections are the inner nodes of the key tree, "" being the root.
var sections = func() map[string][]string {
	m := map[string][]string{}
	for _, k := range append([]string{metaKey}, names()...) {
		section, last := "", k
		if i := strings.LastIndexByte(k, '.'); i >= 0 {
			section, last = k[:i], k[i+1:]
			if !slices.Contains(m[""], section) {
				m[""] = append(m[""], section)
			}
		}
		m[section] = append(m[section], last)
	}
	return m
}()

func names() []string {
	n := make([]string, len(keys))
	for i := range keys {
		n[i] = keys[i].Name
	}
	return n
}

func (f *file) walk(section string, n *yaml.Node) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // `api:` with nothing below it
	}
	if n.Kind != yaml.MappingNode {
		what := "the file"
		if section != "" {
			what = section
		}
		f.fault(n.Line, "", fmt.Sprintf("%s must hold `key: value` lines, not %s", what, kindName(n)), "")
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		name := k.Value
		if section != "" {
			name = section + "." + k.Value
		}
		if first := seen[k.Value]; first != 0 {
			f.fault(k.Line, name, fmt.Sprintf("written twice, first in line %d", first), "")
			continue
		}
		seen[k.Value] = k.Line
		switch {
		case name == metaKey:
			f.readMeta(k.Line, v)
		case slices.Contains(names(), name):
			f.readScalar(name, v)
		case section == "" && sections[name] != nil:
			f.walk(name, v)
		default:
			f.fault(k.Line, name, "no such setting", hintFor(section, k.Value))
		}
	}
}

// hintFor looks for the setting that was meant: first in the same section, then by its
// last part in any.
func hintFor(section, word string) string {
	if n := Nearest(word, sections[section]); n != "" {
		return fmt.Sprintf("did you mean %q?", n)
	}
	all := append([]string{metaKey}, names()...)
	lasts := make([]string, len(all))
	for i, name := range all {
		lasts[i] = name[strings.LastIndexByte(name, '.')+1:]
	}
	if near := Nearest(word, lasts); near != "" {
		var full []string
		for i, last := range lasts {
			if last == near {
				full = append(full, strconv.Quote(all[i]))
			}
		}
		return "did you mean " + strings.Join(full, " or ") + "?"
	}
	known := slices.Clone(sections[section])
	slices.Sort(known)
	return "known here: " + strings.Join(known, ", ")
}

func (f *file) readScalar(name string, v *yaml.Node) {
	if v.Kind == yaml.AliasNode {
		v = v.Alias
	}
	if v.Kind != yaml.ScalarNode {
		f.fault(v.Line, name, "one value expected, not "+kindName(v), "")
		return
	}
	if v.Tag == "!!null" {
		return
	}
	f.values[name] = value{v.Value, v.Line}
}

func (f *file) readMeta(line int, v *yaml.Node) {
	if v.Kind == yaml.AliasNode {
		v = v.Alias
	}
	if v.Kind == yaml.ScalarNode && v.Tag == "!!null" {
		return
	}
	if v.Kind != yaml.MappingNode {
		f.fault(v.Line, metaKey, "`key: value` lines expected, not "+kindName(v), "")
		return
	}
	f.meta, f.metaLine = map[string]string{}, line
	for i := 0; i+1 < len(v.Content); i += 2 {
		k, v := v.Content[i], v.Content[i+1]
		if v.Kind == yaml.AliasNode {
			v = v.Alias
		}
		name := metaKey + "." + k.Value
		_, twice := f.meta[k.Value]
		switch {
		case twice:
			f.fault(k.Line, name, "written twice", "")
		case v.Kind != yaml.ScalarNode:
			f.fault(v.Line, name, "one value expected, not "+kindName(v), "")
		case len(k.Value) == 0 || len(k.Value) > 128:
			f.fault(k.Line, name, "a key has 1 to 128 octets", "")
		case len(v.Value) > 512:
			f.fault(v.Line, name, "a value has at most 512 octets", "")
		default:
			f.meta[k.Value] = v.Value
		}
	}
	if len(f.meta) > 64 {
		f.fault(line, metaKey, fmt.Sprintf("%d pairs; 64 are allowed", len(f.meta)), "")
	}
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		return strconv.Quote(n.Value)
	}
	return "that"
}
