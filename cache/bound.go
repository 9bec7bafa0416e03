package cache

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// Bound says how long responses to some questions are kept, in the place of what [Terms]
// say of all.
type Bound struct {
	// Zone is the name at or below which QNAME lies, in presentation form.
	Zone string
	// Type is the QTYPE, 0 for every one.
	Type uint16
	// Min and Max are the least and the most, of answers and denials alike, in whole
	// seconds; Max is at least one second and not below Min.
	Min, Max time.Duration
}

// bound is a Bound with its zone in wire form and lower case.
type bound struct {
	Bound
	zone []byte
}

// WithBounds returns t with bounds for some zones and types. The longest zone counts, and
// in it the type before none.
func (t Terms) WithBounds(all []Bound) (Terms, error) {
	t.bounds = nil
	for _, b := range all {
		zone, err := wireName(b.Zone)
		switch {
		case err != nil:
			return t, fmt.Errorf("cache: zone %q: %w", b.Zone, err)
		case b.Max < time.Second || b.Min < 0:
			return t, errors.New("cache: a bound of a TTL is out of range")
		case b.Min > b.Max:
			return t, fmt.Errorf("cache: the least TTL %s is above the most, %s", b.Min, b.Max)
		}
		if slices.ContainsFunc(t.bounds, func(o bound) bool { return o.Type == b.Type && string(o.zone) == string(zone) }) {
			return t, fmt.Errorf("cache: %s is bounded twice for the same type", b.Zone)
		}
		t.bounds = append(t.bounds, bound{b, zone})
	}
	slices.SortStableFunc(t.bounds, func(a, b bound) int {
		if n := labels(b.zone) - labels(a.zone); n != 0 {
			return n
		}
		return int(b.Type) - int(a.Type) // those without a type last
	})
	return t, nil
}

func labels(name []byte) (n int) {
	for i := 0; name[i] != 0; i += 1 + int(name[i]) {
		n++
	}
	return n
}

// of returns the least and the most for a question, whose name is in wire form and in
// lower case.
func (t *Terms) of(name []byte, qtype uint16, denial bool) (least, most time.Duration) {
	for i := range t.bounds {
		b := &t.bounds[i]
		if (b.Type == 0 || b.Type == qtype) && below(name, b.zone) {
			return b.Min, b.Max
		}
	}
	if denial {
		return t.MinDenial, t.MaxDenial
	}
	return t.MinSuccess, t.MaxSuccess
}

// ofQuestion is of for a question in presentation form.
func (t *Terms) ofQuestion(q dns.Question, denial bool) (least, most time.Duration) {
	var wire [maxName + 1]byte
	n := 0
	if len(t.bounds) > 0 {
		var err error
		if n, err = dns.PackDomainName(q.Name, wire[:], 0, nil, false); err != nil {
			n = 0
		}
		lower(wire[:n])
	}
	if n == 0 {
		n = 1 // the root, which is in no zone but its own
	}
	return t.of(wire[:n], q.Qtype, denial)
}

// NoMinimum returns t without any least TTL.
func (t Terms) NoMinimum() Terms {
	t.MinSuccess, t.MinDenial = 0, 0
	t.bounds = slices.Clone(t.bounds)
	for i := range t.bounds {
		t.bounds[i].Min = 0
	}
	return t
}
