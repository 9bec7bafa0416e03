package source

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"sort"

	"go.yaml.in/yaml/v3"
)

// jsonTree reads JSON into the tree that YAML is read into. YAML's readers take most of
// JSON, but not all of it: an escaped slash and surrogate pairs are errors there.
func jsonTree(data []byte) (*yaml.Node, error) {
	j := jsonReader{dec: json.NewDecoder(bytes.NewReader(data))}
	j.dec.UseNumber()
	for i, b := range data {
		if b == '\n' {
			j.breaks = append(j.breaks, i)
		}
	}
	n, err := j.value()
	if err != nil {
		return nil, err
	}
	if _, err := j.dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("source: more behind the JSON value")
	}
	return n, nil
}

type jsonReader struct {
	dec    *json.Decoder
	breaks []int // offsets of line breaks
}

// line is where the last token ends: a token of JSON has no line break in it.
func (j *jsonReader) line() int {
	return 1 + sort.SearchInts(j.breaks, int(j.dec.InputOffset()))
}

func (j *jsonReader) value() (*yaml.Node, error) {
	t, err := j.dec.Token()
	if err != nil {
		return nil, err
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: j.line()}
	switch v := t.(type) {
	case json.Delim:
		n.Kind = yaml.SequenceNode
		if v == '{' {
			n.Kind = yaml.MappingNode
		}
		for j.dec.More() {
			c, err := j.value() // keys are values too
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, c)
		}
		_, err = j.dec.Token() // the end, which More has seen
	case string:
		n.Tag, n.Value = "!!str", v
	case json.Number:
		n.Tag, n.Value = "!!float", v.String()
	case bool:
		n.Tag, n.Value = "!!bool", fmt.Sprint(v)
	case nil:
		n.Tag = "!!null"
	}
	return n, err
}
