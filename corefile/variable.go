package corefile

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
)

// variable is {$NAME} or {$NAME:default}. caddy knows the first only.
var variable = regexp.MustCompile(`\{\$([A-Za-z_][A-Za-z0-9_]*)(:[^}\n]*)?\}`)

// expand replaces {$NAME:default}, and {$NAME} where vars has it, in text; what caddy
// itself replaces is left to it.
func expand(path string, text []byte, vars map[string]string) ([]byte, Faults) {
	var faults Faults
	lines := bytes.Split(text, []byte("\n"))
	for i, line := range lines {
		lines[i] = variable.ReplaceAllFunc(line, func(ref []byte) []byte {
			m := variable.FindSubmatch(ref)
			name := string(m[1])
			value, ok := vars[name]
			if !ok && m[2] == nil {
				return ref
			}
			if value == "" {
				value = os.Getenv(name)
			}
			if value == "" && m[2] != nil {
				value = string(m[2][1:])
			}
			if strings.ContainsAny(value, "\n\r") {
				faults = append(faults, &Fault{File: path, Line: i + 1, Text: fmt.Sprintf("the value of %s holds a line break", name)})
				return nil
			}
			return []byte(value)
		})
	}
	return bytes.Join(lines, []byte("\n")), faults
}

// checkImports refuses {$NAME:default} in imported files, where caddy would read it as
// the empty string.
func (l *Loaded) checkImports() error {
	var faults Faults
	seen := map[string]bool{"": true}
	for _, b := range l.Blocks {
		for _, u := range b.uses {
			for _, t := range u.tokens {
				if seen[t.File] {
					continue
				}
				seen[t.File] = true
				text, err := readFile(t.File)
				if err != nil {
					return asFaults(err)
				}
				for i, line := range strings.Split(string(text), "\n") {
					line, _, _ = strings.Cut(line, "#")
					for _, m := range variable.FindAllStringSubmatch(line, -1) {
						if m[2] != "" {
							faults = append(faults, &Fault{
								File: t.File, Line: i + 1,
								Text: fmt.Sprintf("%s has a default in an imported file", m[0]),
								Hint: "defaults of variables work in the Corefile itself only: move the line there, or set the variable and drop the default",
							})
						}
					}
				}
			}
		}
	}
	if faults != nil {
		return faults
	}
	return nil
}
