package catalog

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Errors of the catalogue. A caller tells them apart with errors.Is; each comes wrapped
// with what it is about.
var (
	// ErrNotFound says that the node, instance or check is not in the registry.
	ErrNotFound = errors.New("not in the registry")
	// ErrTombstoned says that the instance was deregistered by another than its owner
	// and that the owner's definition has not changed since.
	ErrTombstoned = errors.New("was deregistered, and its definition has not changed since")
	// ErrOwned says that the instance belongs to another owner, and that this one may
	// not change it. The API may.
	ErrOwned = errors.New("belongs to another owner")
	// ErrAlive says that a node cannot be taken out while its agent runs: the agent
	// would have no node to register on.
	ErrAlive = errors.New("its agent is running")
)

// Invalid is what is wrong with an input: all of its faults at once.
type Invalid struct {
	Fields []FieldError
}

// FieldError is one fault.
type FieldError struct {
	Field string // path of the field in Consul's spelling, as "Check.Interval"
	Value string // as it was given, cut to 64 octets; "" where nothing was
	Hint  string // what is allowed
}

func (e FieldError) String() string {
	if e.Value == "" {
		return e.Field + ": " + e.Hint
	}
	return fmt.Sprintf("%s: %s: %s", e.Field, e.Value, e.Hint)
}

// Error lists the faults, separated by "; ".
func (e *Invalid) Error() string {
	parts := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		parts[i] = f.String()
	}
	return strings.Join(parts, "; ")
}

// maxFaults bounds what a hostile input can make us say.
const maxFaults = 32

// Add notes a fault. The value is shown quoted where it is a string.
func (e *Invalid) Add(field string, value any, hint string) {
	if len(e.Fields) >= maxFaults {
		return
	}
	v := ""
	switch x := value.(type) {
	case nil:
	case string:
		if x != "" {
			v = fmt.Sprintf("%q", cut(x, 64))
		}
	default:
		v = cut(fmt.Sprint(x), 64)
	}
	e.Fields = append(e.Fields, FieldError{Field: field, Value: v, Hint: hint})
}

// Err returns e, or nil where nothing is wrong.
func (e *Invalid) Err() error {
	if len(e.Fields) == 0 {
		return nil
	}
	return e
}

// cut shortens s to at most n octets, at a rune's edge.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
