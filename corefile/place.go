package corefile

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/coredns/caddy/caddyfile"
)

type place struct {
	file string
	line int
}

func (p place) String() string { return fmt.Sprintf("%s:%d", p.file, p.line) }

// header is the line of a block's zones.
type header struct {
	keys []string
	line int
	used bool
}

// headers finds the lines with the zones of the blocks in a file: the parser keeps none.
func headers(path string, text []byte) []*header {
	var out []*header
	d := caddyfile.NewDispenser(path, bytes.NewReader(text))
	depth := 0
	for d.Next() {
		switch {
		case d.Val() == "{":
			depth++
			continue
		case d.Val() == "}":
			depth--
			continue
		case depth > 0:
			continue
		}
		h := &header{line: d.Line()}
		for more := true; more; {
			key := variable.ReplaceAllStringFunc(d.Val(), func(ref string) string {
				return os.Getenv(variable.FindStringSubmatch(ref)[1])
			})
			h.keys = append(h.keys, strings.TrimSuffix(key, ","))
			// A comma lets the zones go on, on this line or the next.
			if more = d.NextArg() || strings.HasSuffix(key, ",") && d.Next(); more && d.Val() == "{" {
				depth++
				more = false
			}
		}
		if h.keys[0] == "import" {
			continue
		}
		out = append(out, h)
		if depth == 0 {
			return out // without braces the rest of the file is the block
		}
	}
	return out
}

// placeBlocks tells the blocks the lines of their zones, from the main file's headers
// in their order, else from those of the files that the block's directives come from.
func (l *Loaded) placeBlocks(text []byte) {
	known := map[string][]*header{l.Path: headers(l.Path, text)}
	for i := range l.Blocks {
		b := &l.Blocks[i]
		files := []string{l.Path}
		for _, u := range b.uses {
			if f := cmpFile(u.tokens[0].File, l.Path); !slices.Contains(files, f) {
				files = append(files, f)
			}
		}
		b.place = place{file: l.Path, line: 1}
		if len(b.uses) > 0 {
			b.place = l.at(b.uses[0].tokens[0])
		}
	search:
		for _, f := range files {
			if known[f] == nil {
				if text, err := readFile(f); err == nil {
					known[f] = headers(f, text)
				}
			}
			for _, h := range known[f] {
				if !h.used && slices.Contains(h.keys, b.Keys[0]) {
					h.used = true
					b.place = place{file: f, line: h.line}
					break search
				}
			}
		}
	}
}

func cmpFile(file, otherwise string) string {
	if file == "" {
		return otherwise
	}
	return file
}

// uses returns where the Corefile uses the directive, in order.
func (l *Loaded) uses(name string) []place {
	var ps []place
	for _, b := range l.Blocks {
		for _, u := range b.uses {
			if u.name == name {
				ps = append(ps, l.at(u.tokens[0]))
			}
		}
	}
	return ps
}

func (l *Loaded) at(t caddyfile.Token) place {
	return place{file: cmpFile(t.File, l.Path), line: t.Line}
}

// translate puts the place that the user wrote for every "PATH:LINE" of Body in text.
func (l *Loaded) translate(text string) string {
	var out strings.Builder
	for {
		i := strings.Index(text, l.Path+":")
		if i < 0 {
			out.WriteString(text)
			return out.String()
		}
		end := i + len(l.Path) + 1
		n := 0
		for ; end < len(text) && text[end] >= '0' && text[end] <= '9' && n < len(l.lines); end++ {
			n = n*10 + int(text[end]-'0')
		}
		if n < 1 || n > len(l.lines) || l.lines[n-1].line == 0 {
			out.WriteString(text[:end])
		} else {
			out.WriteString(text[:i] + l.lines[n-1].String())
		}
		text = text[end:]
	}
}

// zonePlace finds the block of a zone that the text names, the longest such name: caddy
// and dnsserver report a bad zone without its line.
func (l *Loaded) zonePlace(text string) (place, bool) {
	var found place
	longest := 1 // "." stands in every text
	for _, b := range l.Blocks {
		for _, k := range b.Keys {
			if len(k) > longest && strings.Contains(text, k) {
				found, longest = b.place, len(k)
			}
		}
	}
	return found, found.line != 0
}
