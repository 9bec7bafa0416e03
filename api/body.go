package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/catalog"
)

// object is a JSON object on its way into the model. Its fields are found whether they
// are spelt as in Go (CheckID) or with underscores (check_id), in any case; what is not
// asked for is ignored, as Consul ignores it. Faults are gathered with the field's path.
type object struct {
	fields map[string]any // by folded name
	path   string         // "" or ends in "."
	bad    *catalog.Invalid
}

// body reads a call's JSON object.
func (c *call) body() (object, *catalog.Invalid, error) {
	b, err := io.ReadAll(http.MaxBytesReader(c.w, c.Body, MaxBody))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return object{}, nil, fail(http.StatusRequestEntityTooLarge, "the body is larger than %d octets", MaxBody)
	}
	if err != nil {
		return object{}, nil, fail(http.StatusBadRequest, "read the body: %v", err)
	}
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Time{}) // it is all here
	v, err := parse(b)
	if err != nil {
		return object{}, nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return object{}, nil, fail(http.StatusBadRequest, "the body must be a JSON object")
	}
	bad := &catalog.Invalid{}
	return newObject(m, "", bad), bad, nil
}

// parse reads one JSON value and says where it is none.
func parse(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return nil, fail(http.StatusBadRequest, "the body is no JSON: %v at offset %d%s", syntax, syntax.Offset, around(b, syntax.Offset))
	case errors.Is(err, io.EOF):
		return nil, fail(http.StatusBadRequest, "the body is empty; a JSON object is expected")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fail(http.StatusBadRequest, "the body is no JSON: it ends too early, at offset %d%s", len(b), around(b, int64(len(b))))
	case err != nil:
		return nil, fail(http.StatusBadRequest, "the body is no JSON: %v at offset %d", err, d.InputOffset())
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fail(http.StatusBadRequest, "the body has something behind its JSON at offset %d", d.InputOffset())
	}
	return v, nil
}

// around shows what stands before an offset.
func around(b []byte, offset int64) string {
	end := min(int64(len(b)), max(0, offset))
	return fmt.Sprintf(", after %q", b[max(0, end-24):end])
}

func newObject(m map[string]any, path string, bad *catalog.Invalid) object {
	o := object{fields: make(map[string]any, len(m)), path: path, bad: bad}
	// In order, so that of two spellings of one field the same one always counts.
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if m[k] != nil {
			o.fields[foldField(k)] = m[k]
		}
	}
	return o
}

func foldField(k string) string { return strings.ToLower(strings.ReplaceAll(k, "_", "")) }

// get returns the first of the names that is given, and that name.
func (o object) get(names ...string) (any, string) {
	for _, n := range names {
		if v, ok := o.fields[foldField(n)]; ok {
			return v, n
		}
	}
	return nil, names[0]
}

func (o object) has(name string) bool {
	_, ok := o.fields[foldField(name)]
	return ok
}

func (o object) fault(field string, v any, hint string) {
	switch v.(type) {
	case map[string]any, []any:
		v = nil
	}
	o.bad.Add(o.path+field, v, hint)
}

func (o object) str(names ...string) string {
	v, n := o.get(names...)
	switch x := v.(type) {
	case nil:
		return ""
	case string:
		return x
	}
	o.fault(n, v, "must be a string")
	return ""
}

func (o object) boolean(name string) bool {
	v, n := o.get(name)
	switch x := v.(type) {
	case nil:
		return false
	case bool:
		return x
	}
	o.fault(n, v, "must be true or false")
	return false
}

// number returns an integer within bounds, or the default where none is given.
func (o object) number(name string, low, high, otherwise int) int {
	v, n := o.get(name)
	if v == nil {
		return otherwise
	}
	if x, ok := v.(json.Number); ok {
		i, err := x.Int64()
		if err == nil && i >= int64(low) && i <= int64(high) {
			return int(i)
		}
	}
	o.fault(n, v, fmt.Sprintf("must be a number of %d to %d", low, high))
	return otherwise
}

// span returns a duration: a string such as "10s", or a number of nanoseconds.
func (o object) span(name string) registry.Duration {
	v, n := o.get(name)
	switch x := v.(type) {
	case nil:
		return 0
	case string:
		if x == "" {
			return 0
		}
		d, err := time.ParseDuration(x)
		if err == nil && d >= 0 {
			return registry.Duration(d)
		}
	case json.Number:
		i, err := x.Int64()
		if err == nil && i >= 0 {
			return registry.Duration(i)
		}
	}
	o.fault(n, v, "must be a duration such as 10s or 1m30s")
	return 0
}

func (o object) host(name string) registry.Host {
	s := o.str(name)
	h, err := registry.ParseHost(s)
	if err != nil {
		o.fault(name, s, "must be an IP address or a host name")
	}
	return h
}

func (o object) list(names ...string) []string {
	v, n := o.get(names...)
	if v == nil {
		return nil
	}
	if out, ok := stringList(v); ok {
		return out
	}
	o.fault(n, v, "must be a list of strings")
	return nil
}

func stringList(v any) ([]string, bool) {
	l, ok := v.([]any)
	if !ok {
		return nil, false
	}
	out := make([]string, 0, len(l))
	for _, x := range l {
		s, ok := x.(string)
		if !ok {
			return nil, false
		}
		out = append(out, s)
	}
	return out, true
}

// raw returns an object whose keys are the user's.
func (o object) raw(names ...string) map[string]any {
	v, n := o.get(names...)
	if v == nil {
		return nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		o.fault(n, v, "must be an object")
	}
	return m
}

func (o object) texts(names ...string) map[string]string {
	m := o.raw(names...)
	if len(m) == 0 {
		return nil
	}
	_, n := o.get(names...)
	out := make(map[string]string, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		s, ok := m[k].(string)
		if !ok {
			o.fault(n+"."+clip(k), m[k], "must be a string")
			continue
		}
		out[k] = s
	}
	return out
}

// header returns the values of a check's HTTP header: a list or one string a name.
func (o object) header(name string) map[string][]string {
	m := o.raw(name)
	if len(m) == 0 {
		return nil
	}
	out := make(map[string][]string, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if s, ok := m[k].(string); ok {
			out[k] = []string{s}
		} else if l, ok := stringList(m[k]); ok {
			out[k] = l
		} else {
			o.fault(name+"."+clip(k), m[k], "must be a list of strings")
		}
	}
	return out
}

// child returns the object under a name, and false where there is none.
func (o object) child(name string) (object, bool) {
	m := o.raw(name)
	if m == nil {
		return object{}, false
	}
	return newObject(m, o.path+name+".", o.bad), true
}

// children returns the objects of the list under a name.
func (o object) children(name string) []object {
	v, n := o.get(name)
	if v == nil {
		return nil
	}
	l, ok := v.([]any)
	if !ok {
		o.fault(n, v, "must be a list of objects")
		return nil
	}
	var out []object
	for i, x := range l {
		if x == nil {
			continue
		}
		m, ok := x.(map[string]any)
		if !ok {
			o.fault(fmt.Sprintf("%s[%d]", n, i), x, "must be an object")
			continue
		}
		out = append(out, newObject(m, fmt.Sprintf("%s%s[%d].", o.path, n, i), o.bad))
	}
	return out
}
