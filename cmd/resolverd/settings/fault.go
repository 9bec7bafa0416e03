package settings

import "strings"

// Fault is one mistake in the settings.
type Fault struct {
	// Where is "file:line", "RESOLVERD_X" or "--flag"; "" where nobody wrote anything.
	Where string
	// Key is the dotted name of the setting.
	Key string
	// Text says what is wrong, in lower case.
	Text string
	// Hint says what to write instead; may be "".
	Hint string
}

func (f Fault) String() string {
	var b strings.Builder
	if f.Where != "" {
		b.WriteString(f.Where + ": ")
	}
	if f.Key != "" {
		b.WriteString(f.Key + ": ")
	}
	b.WriteString(f.Text)
	return b.String()
}

// Faults is every mistake that was found, in the order file, environment, flags. It is
// never empty where it is returned as an error.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].String()
	}
	return strings.Join(lines, "\n")
}
