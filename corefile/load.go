package corefile

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/coredns/caddy/caddyfile"
)

//go:embed default.Corefile
var defaultText []byte

// DefaultPath is what messages call the embedded default Corefile.
const DefaultPath = "(default Corefile)"

// maxSize bounds a Corefile in octets, without its imports.
const maxSize = 16 << 20

// Default returns the text of the embedded default Corefile.
func Default() []byte { return bytes.Clone(defaultText) }

// Source says where a Corefile comes from.
type Source struct {
	// File is the Corefile's path; "" is the embedded default.
	File string
	// Vars answer {$NAME} and {$NAME:default} before the environment does; nil is none.
	Vars map[string]string
}

// Loaded is a Corefile as read at one moment: imports, snippets and variables
// expanded. It is immutable.
type Loaded struct {
	// Path is the file as given, or [DefaultPath].
	Path string
	// Body is the text that CoreDNS gets: the same directives, one block after the
	// other, each on its line of the file where imports do not move it.
	Body []byte
	// Blocks are the server blocks, in the file's order, the index being that of
	// caddy.Controller.ServerBlockIndex.
	Blocks []Block
	// Warnings are sentences for the log: "file:line: text".
	Warnings []string

	lines []place // where line i+1 of Body comes from
}

// Block is one server block.
type Block struct {
	// Keys are the zones as written, each perhaps with transport and port.
	Keys []string
	// Identity is a hash of the zones, the horizon and the directives that make answers:
	// what a cache or an upstream set of the block belongs to. An edit of `log` keeps it.
	Identity string

	place place
	uses  []use
}

// use is one directive with its arguments and its block, as written once.
type use struct {
	name   string
	tokens []caddyfile.Token // name first
	order  int               // line of the main file that it stands at or was imported at
}

type place struct {
	file string
	line int
}

func (p place) String() string { return fmt.Sprintf("%s:%d", p.file, p.line) }

// Load reads the Corefile of src, expands it and finds what can be found without
// running a setup: bad syntax, a missing import, directives that this build lacks. The
// error is [Faults] (all of them at once) unless the file cannot be read.
func Load(src Source) (*Loaded, error) {
	l := &Loaded{Path: DefaultPath}
	text := defaultText
	if src.File != "" {
		l.Path = src.File
		var err error
		if text, err = readFile(src.File); err != nil {
			return nil, asFaults(err)
		}
	} else if src.Vars["RESOLVERD_LISTEN"] == "" && os.Getenv("RESOLVERD_LISTEN") == "" && !bindable(netip.IPv6Loopback()) {
		// A host without IPv6 must not lose the default for it.
		text = bytes.Replace(text, []byte("{$RESOLVERD_LISTEN:127.0.0.1 ::1}"), []byte("127.0.0.1"), 1)
	}
	text, faults := expand(l.Path, text, src.Vars)
	if faults != nil {
		return nil, faults
	}
	parsed, err := caddyfile.Parse(l.Path, bytes.NewReader(text), nil)
	if err != nil {
		return nil, Faults{faultOf(err, nil)}
	}
	for _, b := range parsed {
		l.Blocks = append(l.Blocks, l.block(b))
	}
	l.placeBlocks(text)
	if len(l.Blocks) == 0 {
		return nil, Faults{{File: l.Path, Line: 1, Text: "no server block", Hint: "the least that answers is `. { forward . /etc/resolv.conf }`, each part on its own line"}}
	}
	if err := l.checkImports(); err != nil {
		return nil, err
	}
	if faults := l.unknown(); faults != nil {
		return nil, faults
	}
	if faults := l.overlaps(); faults != nil {
		return nil, faults
	}
	l.openResolvers()
	l.control()
	for i := range l.Blocks {
		l.Blocks[i].Identity = l.Blocks[i].identity()
	}
	if err := l.render(); err != nil {
		return nil, err
	}
	return l, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, &Fault{File: path, Text: err.Error(), Hint: "give another with --corefile, or none for the embedded default"}
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, &Fault{File: path, Text: err.Error()}
	}
	if len(b) > maxSize {
		return nil, &Fault{File: path, Text: fmt.Sprintf("larger than %d MiB", maxSize>>20)}
	}
	return b, nil
}

func asFaults(err error) error {
	var f *Fault
	if errors.As(err, &f) {
		return Faults{f}
	}
	return err
}

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
							faults = append(faults, &Fault{File: t.File, Line: i + 1,
								Text: fmt.Sprintf("%s has a default in an imported file", m[0]),
								Hint: "defaults of variables work in the Corefile itself only: move the line there, or set the variable and drop the default"})
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

// block splits what caddy grouped by directive into single uses, in the order of the
// file's lines as far as that is known.
func (l *Loaded) block(b caddyfile.ServerBlock) Block {
	names := make([]string, 0, len(b.Tokens))
	for name := range b.Tokens {
		names = append(names, name)
	}
	slices.Sort(names)
	out := Block{Keys: b.Keys}
	for _, name := range names {
		var uses []use
		nesting := 0
		for i, t := range b.Tokens[name] {
			if i == 0 || nesting == 0 && !sameLine(b.Tokens[name][i-1], t) {
				u := use{name: name}
				if t.File == "" {
					u.order = t.Line
				}
				if n := len(uses); n > 0 { // uses of one directive never change places
					u.order = max(u.order, uses[n-1].order)
				}
				t.Text = name // caddy leaves a variable in the directive's own name
				uses = append(uses, u)
			}
			switch t.Text {
			case "{":
				nesting++
			case "}":
				nesting--
			}
			u := &uses[len(uses)-1]
			u.tokens = append(u.tokens, t)
		}
		out.uses = append(out.uses, uses...)
	}
	slices.SortStableFunc(out.uses, func(a, b use) int { return a.order - b.order })
	return out
}

// sameLine says whether b stands on the line on which a ends, as caddy's Dispenser
// sees it.
func sameLine(a, b caddyfile.Token) bool {
	return a.File == b.File && a.Line+strings.Count(a.Text, "\n") == b.Line
}

// neutral are the directives that change no answer that a cache below them would keep:
// they carry, count, admit or dress it. `cache` itself is among them, for its answers
// stay right under other bounds.
var neutral = []string{
	blockDirective, "acl", "any", "bind", "bufsize", "cache", "cancel", "chaos", "debug", "dnstap", "errors", "fastpath",
	"grpc_server", "health", "https", "https3", "loadbalance", "local", "log", "loop", "metadata",
	"multisocket", "nsid", "on", "pprof", "prometheus", "proxyproto", "quic", "ready", "reload",
	"shed", "timeouts", "tls", "tsig",
}

// identity hashes what makes the block's answers, apart from the order of different
// directives and of zones.
func (b *Block) identity() string {
	var parts []string
	for _, k := range b.Keys {
		parts = append(parts, "zone\x00"+strings.ToLower(k))
	}
	slices.Sort(parts)
	byName := map[string]string{}
	for _, u := range b.uses {
		if slices.Contains(neutral, u.name) {
			continue
		}
		tokens := u.tokens
		if u.name == "horizon" && len(tokens) > 2 {
			tokens = tokens[:2] // which clients come here does not change what they are told
		}
		var s strings.Builder
		for i, t := range tokens {
			sep := "\x00"
			if i > 0 && !sameLine(tokens[i-1], t) {
				sep = "\x01"
			}
			s.WriteString(sep + t.Text)
		}
		byName[u.name] += s.String() + "\x02"
	}
	var names []string
	for n := range byName {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		parts = append(parts, "use"+byName[n])
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x03")))
	return hex.EncodeToString(sum[:12])
}

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

// AbsPath returns the Corefile's absolute path, or [DefaultPath].
func (l *Loaded) AbsPath() string {
	if l.Path == DefaultPath {
		return l.Path
	}
	if p, err := filepath.Abs(l.Path); err == nil {
		return p
	}
	return l.Path
}
