package corefile

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"

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

	lines []place        // where line i+1 of Body comes from
	unset map[int]string // by line of the file: a variable that is not set
}

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
	l.noteUnset(text, os.Getenv)
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
	if _, err := caddyfile.Parse(l.Path, bytes.NewReader(text), directives); err != nil {
		return nil, Faults{faultOf(err, nil)} // in a block without a zone, which the first parse leaves out
	}
	if faults := l.overlaps(); faults != nil {
		return nil, faults
	}
	l.openResolvers()
	l.lostPorts(text)
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
