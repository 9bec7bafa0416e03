package cache

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/miekg/dns"
)

// world is the state of one scenario: a cache under a clock that only elapse moves.
type world struct {
	c     *Cache
	now   time.Time
	terms Terms
	store Storage
	epoch uint64 // 0 for the present one
}

// TestScenarios runs testdata/rfc*: one file per paragraph. The commands are
//
//	cache [stale=D] [prefer-positive] [min=D] [max=D] [denial-min=D] [denial-max=D] [failure=D]
//	response NAME TYPE [CLASS] [do] [cd] [no-rd] [tc] [ad] [no-stale] [question=NAME]   body: rcode and sections
//	query NAME TYPE [CLASS] [do] [cd] [no-rd] [ad] [keepttl] [stale-ttl=N]
//	elapse D
//	begin-fetch, end-fetch            what is stored between belongs to before the next flush
//	flush [name=N | suffix=N]
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		w := &world{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out, err := w.run(d)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			return out
		})
	})
}

func (w *world) run(d *datadriven.TestData) (string, error) {
	switch d.Cmd {
	case "cache":
		return w.open(d)
	case "response":
		return w.response(d)
	case "query":
		return w.query(d)
	case "elapse":
		dur, err := time.ParseDuration(d.CmdArgs[0].Key)
		w.now = w.now.Add(dur)
		return "", err
	case "begin-fetch":
		w.epoch = w.c.Epoch().Load()
		return "", nil
	case "end-fetch":
		w.epoch = 0
		return "", nil
	case "flush":
		return w.flush(d)
	}
	return "", fmt.Errorf("unknown command %s", d.Cmd)
}

func (w *world) open(d *datadriven.TestData) (string, error) {
	c, err := New("scenario", Size{})
	if err != nil {
		return "", err
	}
	w.c, w.terms, w.store = c, DefaultTerms(), Storage{}
	for _, a := range d.CmdArgs {
		if a.Key == "prefer-positive" {
			w.store.PreferPositive = true
			continue
		}
		dur, err := time.ParseDuration(a.Vals[0])
		if err != nil {
			return "", err
		}
		switch a.Key {
		case "stale":
			w.store.MaxStale = dur
		case "min":
			w.terms.MinSuccess = dur
		case "max":
			w.terms.MaxSuccess = dur
		case "denial-min":
			w.terms.MinDenial = dur
		case "denial-max":
			w.terms.MaxDenial = dur
		case "failure":
			w.terms.Failure = dur
		default:
			return "", fmt.Errorf("unknown option %s", a.Key)
		}
	}
	return "", nil
}

// question reads NAME TYPE [CLASS] and returns the other arguments as flags.
func question(d *datadriven.TestData) (dns.Question, map[string]string, error) {
	q := dns.Question{Name: d.CmdArgs[0].Key, Qclass: dns.ClassINET}
	flags := map[string]string{}
	for _, a := range d.CmdArgs[1:] {
		if t, ok := dns.StringToType[a.Key]; ok && q.Qtype == 0 {
			q.Qtype = t
		} else if c, ok := dns.StringToClass[a.Key]; ok {
			q.Qclass = c
		} else if len(a.Vals) > 0 {
			flags[a.Key] = a.Vals[0]
		} else {
			flags[a.Key] = ""
		}
	}
	if q.Qtype == 0 {
		return q, nil, fmt.Errorf("no type in %s", d.Pos)
	}
	return q, flags, nil
}

func keyFlags(flags map[string]string) Flags {
	f := RD
	for name, bit := range map[string]Flags{"do": DO, "cd": CD, "no-rd": RD} {
		if _, ok := flags[name]; ok {
			f ^= bit
		}
	}
	return f
}

func (w *world) response(d *datadriven.TestData) (string, error) {
	q, flags, err := question(d)
	if err != nil {
		return "", err
	}
	has := func(f string) bool { _, ok := flags[f]; return ok }
	m := &dns.Msg{Question: []dns.Question{q}}
	if n, ok := flags["question"]; ok {
		m.Question[0].Name = n
	}
	m.Response, m.RecursionAvailable = true, true
	m.Truncated, m.AuthenticatedData = has("tc"), has("ad")
	section := &m.Answer
	for _, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
		switch f := strings.Fields(line); {
		case len(f) == 1 && f[0] == "answer":
			section = &m.Answer
		case len(f) == 1 && f[0] == "authority":
			section = &m.Ns
		case len(f) == 1 && f[0] == "additional":
			section = &m.Extra
		case len(f) == 1:
			rcode, ok := dns.StringToRcode[f[0]]
			if !ok {
				return "", fmt.Errorf("no RCODE: %s", f[0])
			}
			m.Rcode = rcode
		default:
			rr, err := dns.NewRR(line)
			if err != nil {
				return "", err
			}
			// The parser refuses what is above 2^31-1, the wire does not.
			if ttl, err := strconv.ParseUint(f[1], 10, 32); err == nil {
				rr.Header().Ttl = uint32(ttl)
			}
			*section = append(*section, rr)
		}
	}
	key, err := AppendQuestionKey(nil, q, keyFlags(flags))
	if err != nil {
		return "", err
	}
	p := Prepare(m, has("do"), w.terms, w.now)
	o := w.store
	o.NoStale = has("no-stale")
	o.Epoch = w.epoch
	if o.Epoch == 0 {
		o.Epoch = w.c.Epoch().Load()
	}
	s, err := w.c.Store(key, p, o, w.now)
	switch {
	case err != nil:
		return fmt.Sprintf("refused: %v\n", err), nil
	case s.New:
		return fmt.Sprintf("stored %s for %s\n", p.Kind, p.Life), nil
	case s.Entry != nil:
		return fmt.Sprintf("not stored: %s does not replace %s\n", p.Kind, s.Entry.Kind()), nil
	default:
		return fmt.Sprintf("not stored: %s for %s\n", p.Kind, p.Life), nil
	}
}

func (w *world) query(d *datadriven.TestData) (string, error) {
	q, flags, err := question(d)
	if err != nil {
		return "", err
	}
	has := func(f string) bool { _, ok := flags[f]; return ok }
	key, err := AppendQuestionKey(nil, q, keyFlags(flags))
	if err != nil {
		return "", err
	}
	e := w.c.Find(key, w.now, w.store.MaxStale)
	if e == nil {
		return "miss\n", nil
	}
	name := make([]byte, 256)
	n, err := dns.PackDomainName(q.Name, name, 0, nil, false)
	if err != nil {
		return "", err
	}
	r := Reply{ID: 4711, RD: !has("no-rd"), CD: has("cd"), AD: has("ad") || has("do"), Question: name[:n], KeepTTL: has("keepttl")}
	if s, ok := flags["stale-ttl"]; ok {
		ttl, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return "", err
		}
		r.StaleTTL = uint32(ttl)
	}
	var m dns.Msg
	if err := m.Unpack(e.AppendReply(nil, r, w.now)); err != nil {
		return "", err
	}
	if m.Id != 4711 || m.RecursionDesired == has("no-rd") || m.CheckingDisabled != has("cd") || m.Question[0] != q {
		return "", fmt.Errorf("reply is not to the query: %v", m)
	}
	var b strings.Builder
	how := "fresh"
	if e.Stale(w.now) {
		how = "stale"
	}
	fmt.Fprintf(&b, "%s %s %s", how, e.Kind(), dns.RcodeToString[m.Rcode])
	if m.AuthenticatedData {
		b.WriteString(" ad")
	}
	b.WriteByte('\n')
	for i, rrs := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range rrs {
			fmt.Fprintf(&b, "%s: %s\n", [...]string{"answer", "authority", "additional"}[i], strings.Join(strings.Fields(rr.String()), " "))
		}
	}
	return b.String(), nil
}

func (w *world) flush(d *datadriven.TestData) (string, error) {
	n, err := 0, error(nil)
	switch {
	case len(d.CmdArgs) == 0:
		n = w.c.Flush()
	case d.CmdArgs[0].Key == "name":
		n, err = w.c.FlushName(d.CmdArgs[0].Vals[0])
	default:
		n, err = w.c.FlushSuffix(d.CmdArgs[0].Vals[0])
	}
	return fmt.Sprintf("%d dropped\n", n), err
}
