package forward

import "fmt"

// State is what is believed of an upstream.
type State uint8

const (
	// Up is an upstream that answers, as far as is known.
	Up State = iota
	// Suspect is one that failed and has not been heard of since. It is asked after the
	// others, while a probe finds out.
	Suspect
	// Trial is one whose probe neither failed nor convinced: an authoritative server
	// refuses the root's NS. A query decides.
	Trial
	// Down is one whose probes failed more often than allowed. It is asked only when all
	// are down.
	Down
)

// String returns the state in lower case.
func (s State) String() string {
	switch s {
	case Up:
		return "up"
	case Suspect:
		return "suspect"
	case Trial:
		return "trial"
	case Down:
		return "down"
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// event is something learnt about an upstream.
type event uint8

const (
	answered    event = iota // a query was answered, by whatever RCODE that was accepted
	failed                   // a query got no reply
	outdone                  // a query got SERVFAIL or REFUSED where another upstream answered
	probeGood                // the probe got an answer
	probeBad                 // the probe got none, or SERVFAIL
	probeUnsure              // the probe got REFUSED or the like: says nothing about other names
)

// health is the state of one upstream, without clock or socket.
type health struct {
	state State
	fails uint32 // failed probes (and queries, where they count) in a row
}

// rule is how many failures are borne.
type rule struct {
	maxFails     uint32 // Down when fails exceeds it; 0: never anything but Up
	countQueries bool   // a failed query counts like a failed probe
}

// step returns the health after ev, and whether the upstream must be probed from now on
// until it is Up. The caller runs at most one prober at a time.
func (h health) step(ev event, r rule) (next health, probe bool) {
	if r.maxFails == 0 {
		return health{}, false
	}
	switch ev {
	case answered, probeGood:
		return health{}, false
	case failed:
		if r.countQueries && h.fails <= r.maxFails {
			h.fails++
		}
		switch {
		case h.fails > r.maxFails || h.state == Trial:
			// A trial that failed goes back to where it came from.
			h.state = Down
		case h.state == Up:
			h.state = Suspect
		}
	case outdone:
		switch h.state {
		case Up:
			h.state = Suspect
		case Trial:
			h.state = Down
		}
	case probeBad:
		if h.fails <= r.maxFails {
			h.fails++
		}
		switch {
		case h.fails > r.maxFails:
			h.state = Down
		case h.state != Down:
			h.state = Suspect
		}
	case probeUnsure:
		h.state = Trial
	}
	return h, h.state != Up
}
