package corefile

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Fault is one thing that is wrong in a Corefile.
type Fault struct {
	File string // as given, or the absolute path of an imported file; "" where no place is known
	Line int    // from 1; 0 where no line is known
	Text string // what is wrong, one line
	Hint string // what to do about it, one line, or ""
	Err  error  // what lies behind it, or nil
}

// Unwrap returns Err.
func (f *Fault) Unwrap() error { return f.Err }

// Error returns "file:line: text", without the hint.
func (f *Fault) Error() string {
	switch {
	case f.File == "":
		return f.Text
	case f.Line == 0:
		return f.File + ": " + f.Text
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Text)
}

// Faults are all that was found in one Corefile, in the file's order; never empty
// where returned as an error.
type Faults []*Fault

// Error returns one line for each fault, without the hints.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the faults.
func (fs Faults) Unwrap() []error {
	errs := make([]error, len(fs))
	for i, f := range fs {
		errs[i] = f
	}
	return errs
}

// Hint returns the hints of all faults, one a line, or "".
func (fs Faults) Hint() string {
	var lines []string
	for _, f := range fs {
		if f.Hint != "" {
			lines = append(lines, f.Hint)
		}
	}
	return strings.Join(lines, "\n")
}

// caddy reports "FILE:LINE - Error during parsing: TEXT" and "FILE:LINE - Syntax error: TEXT",
// plugins put "plugin/NAME: " in front of either or of a text without a place.
var (
	placed   = regexp.MustCompile(`^(?:plugin/([a-z0-9_]+): )?(.+?):(\d+) - (?:Error during parsing: |(?i:Syntax error): )(.*)$`)
	badPort  = regexp.MustCompile(`^address (.*): invalid port$`)
	unplaced = regexp.MustCompile(`^plugin/([a-z0-9_]+): (.*)$`)
)

// faultOf turns an error of caddy or of a plugin's setup into a fault, with the place
// that it names or else the place where l uses the plugin. A variable that is not set
// there is likely to be the cause.
func faultOf(err error, l *Loaded) *Fault {
	f := placedFault(err, l)
	if f.Hint == "" {
		f.Hint = optionHint(f.Text)
	}
	if l != nil && f.Hint == "" {
		if name := l.unsetVariable(f); name != "" {
			f.Hint = fmt.Sprintf("{$%s} is read as nothing: %s is not set in the environment of this process", name, name)
		}
	}
	return f
}

func placedFault(err error, l *Loaded) *Fault {
	text := strings.TrimPrefix(err.Error(), "starting with listener file descriptors: ")
	text = strings.TrimPrefix(text, "error inspecting server blocks: ")
	text = strings.ReplaceAll(text, "\n", " ")
	if l != nil {
		text = l.translate(text)
	}
	if m := placed.FindStringSubmatch(text); m != nil {
		line, _ := strconv.Atoi(m[3])
		f := &Fault{File: m[2], Line: line, Text: m[4]}
		if m[1] != "" {
			f.Text = m[1] + ": " + f.Text
		}
		if strings.HasSuffix(f.Text, ", expecting '}'") || strings.HasSuffix(f.Text, "Unexpected EOF") {
			f.Hint = "a { above is not closed"
		}
		return f
	}
	if m := unplaced.FindStringSubmatch(text); m != nil && l != nil {
		f := &Fault{Text: m[1] + ": " + m[2]}
		var others []string
		for i, p := range l.uses(m[1]) {
			if i == 0 {
				f.File, f.Line = p.file, p.line
				continue
			}
			others = append(others, fmt.Sprintf("%s:%d", p.file, p.line))
		}
		if others != nil {
			f.Hint = fmt.Sprintf("%s stands also at %s: it may be one of them", m[1], strings.Join(others, ", "))
		}
		if f.File == "" {
			f.File = l.Path
		}
		return f
	}
	f := &Fault{Text: text}
	if l != nil {
		f.File = l.Path
		if p, ok := l.zonePlace(text); ok {
			f.File, f.Line = p.file, p.line
		} else if m := badPort.FindStringSubmatch(text); m != nil {
			for _, b := range l.Blocks {
				if slices.ContainsFunc(b.Keys, func(k string) bool { return strings.HasSuffix(k, ":"+m[1]) }) {
					f.File, f.Line, f.Text = b.place.file, b.place.line, fmt.Sprintf("%q is no port; ports are 1 to 65535", m[1])
					break
				}
			}
		}
	}
	return f
}
