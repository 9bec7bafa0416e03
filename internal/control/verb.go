package control

import "errors"

// The verbs. Each is a POST to /v1/VERB.
const (
	VerbReload     = "reload"      // no parameters; answers when the new Corefile is served
	VerbCacheStats = "cache/stats" // [Stats]
	VerbCacheFlush = "cache/flush" // [Flush]; answers [Flushed]
	VerbStatus     = "status"      // no parameters
)

// Stats says what to tell of the caches beside their counters.
type Stats struct {
	Zones int `json:"zones,omitempty"` // as many of the largest zones in each
}

// Flush says what to drop from the cache: exactly one field is set.
type Flush struct {
	Name   string `json:"name,omitempty"`   // every type of this name
	Suffix string `json:"suffix,omitempty"` // this name and all below it
	All    bool   `json:"all,omitempty"`
}

// Validate reports a Flush that does not set exactly one field.
func (f Flush) Validate() error {
	n := 0
	for _, set := range []bool{f.Name != "", f.Suffix != "", f.All} {
		if set {
			n++
		}
	}
	if n != 1 {
		return errors.New("control: flush takes one of name, suffix, all")
	}
	return nil
}

// Flushed is the result of a flush.
type Flushed struct {
	Removed int `json:"removed"` // cached responses dropped
}

// Error is a verb's refusal as it came over the socket.
type Error struct {
	Text string `json:"error"`
	Tip  string `json:"hint,omitempty"`
}

// Error returns the text, without the hint.
func (e *Error) Error() string { return e.Text }

// Hint returns what to do about it, or "".
func (e *Error) Hint() string { return e.Tip }

// hinted is an error that says what to do about it.
type hinted interface{ Hint() string }
