package check

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxScriptRead bounds how much of a script file is looked at.
const maxScriptRead = 64 << 10

// endsInGrep reports whether a command's exit code is that of grep, which says 1 for
// "no such line": as a check that is a warning, and a warning is still answered.
func endsInGrep(args []string) bool {
	if len(args) == 0 {
		return false
	}
	if isGrep(args[0]) {
		return true
	}
	file := args[0]
	if isShell(args[0]) {
		rest := args[1:]
		for len(rest) > 0 && strings.HasPrefix(rest[0], "-") {
			if !strings.HasPrefix(rest[0], "--") && strings.Contains(rest[0], "c") {
				return len(rest) > 1 && isGrep(lastCommand(rest[1]))
			}
			rest = rest[1:]
		}
		if len(rest) == 0 {
			return false
		}
		file = rest[0]
		return scriptEndsInGrep(file, true)
	}
	return scriptEndsInGrep(file, false)
}

// scriptEndsInGrep looks into a script file; one that is not run by a shell is not
// looked at, unless a shell is known to run it.
func scriptEndsInGrep(path string, shell bool) bool {
	if !filepath.IsAbs(path) {
		return false
	}
	st, err := os.Stat(path)
	if err != nil || !st.Mode().IsRegular() {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	s := bufio.NewScanner(io.LimitReader(f, maxScriptRead))
	s.Buffer(nil, maxScriptRead)
	last, first := "", true
	for s.Scan() {
		line := strings.TrimSpace(s.Text())
		if first {
			first = false
			if words := strings.Fields(strings.TrimPrefix(line, "#!")); strings.HasPrefix(line, "#!") {
				shell = slices.ContainsFunc(words, isShell)
			}
			if !shell {
				return false
			}
		}
		if line == "" || strings.HasPrefix(line, "#") || line == "exit" || line == "exit $?" || line == "fi" {
			continue
		}
		last = line
	}
	return isGrep(lastCommand(last))
}

// lastCommand returns the first word of the last command of a shell line: behind the
// last separator that stands outside of quotes, and behind assignments, negation and
// sudo.
func lastCommand(line string) string {
	line = strings.TrimRight(strings.TrimSpace(line), "; \t\n")
	start, quote := 0, byte(0)
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\\':
			i++
		case c == '\'' || c == '"':
			quote = c
		case c == '#' && i > 0 && line[i-1] == ' ':
			line = line[:i]
		case c == '|' || c == '&' && !redirects(line, i) || c == ';' || c == '\n':
			start = i + 1
		}
	}
	for _, w := range strings.Fields(line[min(start, len(line)):]) {
		if w == "!" || w == "exec" || w == "command" || w == "sudo" || strings.Contains(w, "=") && !strings.HasPrefix(w, "-") {
			continue
		}
		return w
	}
	return ""
}

// redirects reports whether the & at i belongs to a redirection such as 2>&1 or &>file.
func redirects(line string, i int) bool {
	return i > 0 && (line[i-1] == '>' || line[i-1] == '<') || i+1 < len(line) && line[i+1] == '>'
}

func isGrep(cmd string) bool {
	switch filepath.Base(cmd) {
	case "grep", "egrep", "fgrep", "zgrep", "pgrep", "rg":
		return true
	}
	return false
}

func isShell(cmd string) bool {
	switch filepath.Base(cmd) {
	case "sh", "bash", "dash", "ash", "ksh", "zsh":
		return true
	}
	return false
}
