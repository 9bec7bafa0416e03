package corefile

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/coredns/caddy/caddyfile"
)

// render writes Body: every use on the line of the file where it stands, where that is
// still free, so that what plugins themselves log of lines is mostly true. What differs
// is kept in lines. The text is read back and compared, for it must mean the same.
func (l *Loaded) render() error {
	w := &writer{path: l.Path}
	for _, b := range l.Blocks {
		w.to(b.place)
		for _, k := range b.Keys {
			if k == "" || strings.HasSuffix(k, ",") { // the parser took one comma off
				k += ","
			}
			w.word(k)
		}
		w.word("{")
		w.word(blockDirective)
		w.word(b.Identity)
		for _, u := range b.uses {
			for j, t := range u.tokens {
				if j == 0 || !sameLine(u.tokens[j-1], t) {
					w.to(l.at(t))
				}
				w.word(t.Text)
			}
		}
		w.newline()
		w.word("}")
		w.newline()
	}
	l.Body, l.lines = w.buf.Bytes(), w.lines
	return l.reread()
}

func (l *Loaded) reread() error {
	got, err := caddyfile.Parse(l.Path, bytes.NewReader(l.Body), nil)
	if err != nil || len(got) != len(l.Blocks) {
		return Faults{{File: l.Path, Text: fmt.Sprintf("cannot be written out again: %v", err), Hint: "look for quotes and backslashes in unusual places"}}
	}
	for i, b := range got {
		if !slices.Equal(b.Keys, l.Blocks[i].Keys) {
			p := l.Blocks[i].place
			return Faults{{File: p.file, Line: p.line, Text: "the zones cannot be written out again", Hint: "look for quotes and commas in unusual places"}}
		}
		want := map[string][]string{}
		for _, u := range l.Blocks[i].uses {
			for _, t := range u.tokens {
				want[u.name] = append(want[u.name], t.Text)
			}
		}
		for name, words := range want {
			tokens := b.Tokens[name]
			same := len(tokens) == len(words)
			for j := 0; same && j < len(words); j++ {
				same = tokens[j].Text == words[j]
			}
			if !same {
				p := l.uses(name)[0]
				return Faults{{File: p.file, Line: p.line, Text: fmt.Sprintf("a word of %s cannot be written out again", name), Hint: "look for quotes and backslashes in unusual places"}}
			}
		}
	}
	return nil
}

// writer lays words out on lines and remembers where each line comes from.
type writer struct {
	path  string
	buf   bytes.Buffer
	lines []place // of the lines finished or begun
	fresh bool    // the line begun has no word yet
}

// to begins a line for what stands at p: the same line number where that is ahead.
func (w *writer) to(p place) {
	w.newline()
	if p.file == w.path {
		for len(w.lines) < p.line {
			w.buf.WriteByte('\n')
			w.lines = append(w.lines, place{})
		}
	}
	w.lines[len(w.lines)-1] = p
}

func (w *writer) newline() {
	if len(w.lines) == 0 {
		w.lines = append(w.lines, place{})
		w.fresh = true
	}
	if !w.fresh {
		w.buf.WriteByte('\n')
		w.lines = append(w.lines, place{})
		w.fresh = true
	}
}

func (w *writer) word(s string) {
	if !w.fresh {
		w.buf.WriteByte(' ')
	}
	w.fresh = false
	if s == "" || strings.ContainsAny(s, " \t\r\n#") || s[0] == '"' {
		w.buf.WriteByte('"')
		w.buf.WriteString(strings.ReplaceAll(s, `"`, `\"`))
		w.buf.WriteByte('"')
		for range strings.Count(s, "\n") {
			w.lines = append(w.lines, w.lines[len(w.lines)-1])
		}
		return
	}
	w.buf.WriteString(s)
}
