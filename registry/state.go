package registry

import "strings"

// State is what an instance is to those who ask for its service.
type State uint8

// The states, from unusable to usable.
const (
	Starting    State = iota // registered, some check has not passed yet
	Down                     // a check is critical
	Maintenance              // taken out by hand
	Draining                 // in SRV with weight 0, not in A
	Warned                   // a check warns; answered unless only_passing
	Up                       // all checks pass, or it has none
)

var stateNames = [...]string{"starting", "critical", "maintenance", "draining", "warning", "up"}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// MarshalText makes a State its name in JSON.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// StateOf derives an instance's state from its checks and the checks of its node. The
// worst counts; maintenance stands above a failed check, a failed check above a drain.
func StateOf(i *Instance, checks ...[]*Check) State {
	status, ran, maintenance := Passing, true, false
	for _, list := range checks {
		for _, c := range list {
			if c.ID == NodeMaintenance || strings.HasPrefix(c.ID, ServiceMaintenance) {
				maintenance = true
				continue
			}
			status = status.Worse(c.Status)
			if c.Status == Critical && !c.Ran {
				ran = false
			}
		}
	}
	switch {
	case maintenance:
		return Maintenance
	case status == Critical && !ran:
		return Starting
	case status == Critical:
		return Down
	case i.Drain:
		return Draining
	case status == Warning:
		return Warned
	}
	return Up
}

// Answered reports whether an instance in this state is named in A and AAAA.
func (s State) Answered(onlyPassing bool) bool {
	return s == Up || s == Warned && !onlyPassing
}

// In returns the weight that counts in this state.
func (w Weights) In(s State) uint16 {
	switch s {
	case Up:
		return w.Passing
	case Warned:
		return w.Warning
	}
	return 0
}
