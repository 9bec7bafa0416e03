package log

import (
	"context"
	stdlog "log"
	"strconv"
	"strings"
	"time"

	"github.com/coredns/coredns/plugin/pkg/dnstest"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/coredns/coredns/request"

	"github.com/resolverd/resolverd/internal/answer"
)

// note is what a line says of a response, whoever asks.
type note struct {
	text  string // of all pieces, one behind the other
	parts []part
	json  *attributes // nil where lines are text
}

// part is the end of a piece's text, and the slot behind it.
type part struct {
	end  int
	slot string
}

func noteOf(ctx context.Context, rule *rule, state request.Request, rec *dnstest.Recorder) *note {
	n := &note{parts: make([]part, 0, len(rule.pieces))}
	var text strings.Builder
	for _, p := range rule.pieces {
		if p.format != "" {
			text.WriteString(formatter.Replace(ctx, state, rec, p.format))
		}
		n.parts = append(n.parts, part{text.Len(), p.slot})
	}
	n.text = text.String()
	if clog.IsJSON() {
		n.json = attributesOf(&state, rec)
	}
	return n
}

// size is about the memory that the note takes.
func (n *note) size() int {
	size := 64 + len(n.text) + 24*len(n.parts)
	if n.json != nil {
		size += 256
	}
	return size
}

// append appends the line of one repetition.
func (n *note) append(b []byte, r *answer.Repetition) []byte {
	from := 0
	for _, p := range n.parts {
		b = append(b, n.text[from:p.end]...)
		from = p.end
		switch p.slot {
		case "{remote}":
			if r.Client.Addr().Is4() {
				b = r.Client.Addr().AppendTo(b)
				break
			}
			b = append(b, '[')
			b = append(r.Client.Addr().AppendTo(b), ']')
		case "{port}":
			b = strconv.AppendUint(b, uint64(r.Client.Port()), 10)
		case "{>id}":
			b = strconv.AppendUint(b, uint64(r.ID), 10)
		case "{duration}":
			b = append(strconv.AppendFloat(b, r.Took.Seconds(), 'f', -1, 64), 's')
		}
	}
	return b
}

const (
	// flushAt is how many octets of lines are written at once at most, about.
	flushAt = 32 << 10
	// level is how clog begins a line.
	level = "[INFO] "
	stamp = "2006/01/02 15:04:05 "
)

// lines writes the lines of repetitions. It is an answer.Watcher: one goroutine at a time
// calls it.
type lines struct {
	buf    []byte // lines that wait
	header []byte // what the log package would begin each of them with
}

// Repeated implements answer.Watcher.
func (l *lines) Repeated(about any, r *answer.Repetition) {
	n := about.(*note)
	if n.json != nil {
		n.json.log(string(n.append(nil, r)), r.Client.Addr().String(), strconv.Itoa(int(r.Client.Port())), r.ID, r.Took)
		return
	}
	if len(l.buf) == 0 && !l.begin() {
		clog.Info(string(n.append(nil, r)))
		return
	}
	if len(l.buf) > 0 {
		l.buf = append(l.buf, '\n')
		l.buf = append(l.buf, l.header...)
	}
	l.buf = append(l.buf, level...)
	if l.buf = n.append(l.buf, r); len(l.buf) >= flushAt {
		l.Flush()
	}
}

// begin makes the header of lines written now, and says no where it does not know what
// the log package would write: each of them is then written by it alone.
func (l *lines) begin() bool {
	if stdlog.Prefix() != "" {
		return false
	}
	switch stdlog.Flags() {
	case 0:
		l.header = l.header[:0]
	case stdlog.LstdFlags:
		l.header = time.Now().AppendFormat(l.header[:0], stamp)
	default:
		return false
	}
	return true
}

// Flush implements answer.Watcher.
func (l *lines) Flush() {
	if len(l.buf) > 0 {
		stdlog.Print(string(l.buf)) // which writes the first one's header
		l.buf = l.buf[:0]
	}
}
