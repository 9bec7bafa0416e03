package log

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"

	"github.com/coredns/coredns/plugin/pkg/replacer"
	"github.com/coredns/coredns/plugin/pkg/response"
)

const (
	// commonFormat and combinedFormat are CoreDNS's.
	commonFormat   = `{remote}:{port} - {>id} "{type} {class} {name} {proto} {size} {>do} {>bufsize}" {rcode} {>rflags} {rsize} {duration}`
	combinedFormat = commonFormat + ` "{>opcode}"`
	// maxSample bounds `sample`.
	maxSample = 1_000_000
)

// rule is one name of a stanza.
type rule struct {
	scope   string // the zone that it is for
	classes map[response.Class]bool
	format  string
	oneIn   uint32 // 1 logs all
	pieces  []piece
}

// piece is a part of a format: text that is the same for all repetitions of a response,
// and what follows it that is not.
type piece struct {
	format string
	slot   string // one of the slots, or "" at the end
}

// slots are the placeholders whose values belong to the query, whatever the response.
var slots = []string{"{remote}", "{port}", "{>id}", "{duration}"}

// split cuts a format at its slots. Those are placeholders wherever they stand, so that
// each piece means by itself what it means in the whole.
func split(format string) []piece {
	var out []piece
	for {
		at, slot := len(format), ""
		for _, s := range slots {
			if i := strings.Index(format, s); i >= 0 && i < at {
				at, slot = i, s
			}
		}
		out = append(out, piece{format[:at], slot})
		if slot == "" {
			return out
		}
		format = format[at+len(slot):]
	}
}

// selects says whether responses of the class are logged.
func (r *rule) selects(c response.Class) bool {
	return r.classes[response.All] || r.classes[c]
}

// drawn says whether this query is in the sample. It is drawn and not counted off: one in
// two of a client that asks for A and AAAA in turn would be one type alone.
func (r *rule) drawn() bool { return r.oneIn <= 1 || rand.Uint32N(r.oneIn) == 0 }

// constant says whether the lines of one response's repetitions differ only in their
// slots; that of metadata, but for our own, nobody knows.
func (r *rule) constant() error {
	for _, label := range metadataLabel.FindAllString(r.format, -1) {
		if label != "{/log/type}" && label != "{/log/class}" {
			return fmt.Errorf("log writes %s, which may differ for each query", label)
		}
	}
	return nil
}

var metadataLabel = regexp.MustCompile(`\{/[^{}]*\}`)

var formatter = replacer.New()
