package log

import (
	"bytes"
	"context"
	"errors"
	stdlog "log"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/coredns/coredns/plugin/test"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/internal/answer"
)

// written takes what the log package writes, in text or JSON, until the test ends.
func written(t *testing.T, format string, flags int) *bytes.Buffer {
	t.Helper()
	out := &bytes.Buffer{}
	was, wasFlags := stdlog.Writer(), stdlog.Flags()
	stdlog.SetFlags(flags)
	if err := clog.Configure(format, out); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := clog.Configure("text", was); err != nil {
			t.Error(err)
		}
		stdlog.SetFlags(wasFlags)
	})
	return out
}

// responder answers with what f makes of the query, as something that may be repeated
// until a time; nil writes nothing.
func responder(f func(r *dns.Msg) (*dns.Msg, int, error), until time.Time) plugin.Handler {
	return plugin.HandlerFunc(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		m, rcode, err := f(r)
		if m != nil {
			answer.FromContext(ctx).Share(answer.Shareable{Until: until})
			_ = w.WriteMsg(m)
		}
		return rcode, err
	})
}

func reply(r *dns.Msg, rrs ...string) *dns.Msg {
	m := new(dns.Msg).SetReply(r)
	for _, s := range rrs {
		rr, err := dns.NewRR(s)
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	return m
}

func newHandler(t *testing.T, text string, next plugin.Handler) *handler {
	t.Helper()
	rules, err := parse(caddy.NewTestController("dns", text))
	if err != nil {
		t.Fatal(err)
	}
	return &handler{next: next, rules: rules}
}

func TestLines(t *testing.T) {
	good := func(r *dns.Msg) (*dns.Msg, int, error) {
		return reply(r, "example.org. 5 IN A 192.0.2.1"), dns.RcodeSuccess, nil
	}
	fails := func(*dns.Msg) (*dns.Msg, int, error) { return nil, dns.RcodeServerFailure, errors.New("no") }
	drops := func(*dns.Msg) (*dns.Msg, int, error) { return nil, dns.RcodeSuccess, nil }
	nx := func(r *dns.Msg) (*dns.Msg, int, error) {
		m := reply(r)
		m.Rcode = dns.RcodeNameError
		return m, dns.RcodeNameError, nil
	}
	const common = `10.240.0.1:40212 - 4660 "A IN example.org. udp 29 false 512" `
	for name, tc := range map[string]struct {
		text string
		next func(*dns.Msg) (*dns.Msg, int, error)
		want string
	}{
		"common":        {"log", good, common + "NOERROR qr,rd 56 Ns"},
		"combined":      {"log . {combined}", good, common + `NOERROR qr,rd 56 Ns "0"`},
		"deferred":      {"log", fails, common + "SERVFAIL qr,rd 29 Ns"},
		"dropped":       {"log", drops, common + "- - 0 Ns"},
		"denial":        {"log . \"{rcode}\" {\nclass denial\n}", nx, "NXDOMAIN"},
		"not a denial":  {"log . {\nclass denial\n}", good, ""},
		"error":         {"log . \"{rcode}\" {\nclass error\n}", fails, "SERVFAIL"},
		"not an error":  {"log . {\nclass error success\n}", nx, ""},
		"other name":    {"log example.net", good, ""},
		"first counts":  {"log example.org {\nclass error\n}\nlog", good, ""},
		"second counts": {"log example.net a\nlog org \"{remote} {name}\"\nlog", good, "10.240.0.1 example.org."},
		"metadata":      {"log . \"{/log/type} {/x} {x}\"", good, "- - {x}"},
	} {
		t.Run(name, func(t *testing.T) {
			out := written(t, "text", 0)
			r := new(dns.Msg).SetQuestion("Example.ORG.", dns.TypeA)
			r.Id = 0x1234
			h := newHandler(t, tc.text, responder(tc.next, time.Time{}))
			_, wantRcode, wantErr := tc.next(r)
			rcode, err := h.ServeDNS(t.Context(), &test.ResponseWriter{}, r)
			if rcode != wantRcode || (err != nil) != (wantErr != nil) {
				t.Errorf("RCODE %d, %v", rcode, err)
			}
			want := tc.want
			if want != "" {
				want = "[INFO] " + want + "\n"
			}
			got := regexp.MustCompile(`[\d.e-]+s(\n| ")`).ReplaceAllString(out.String(), "Ns$1")
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// repeat has the handler answer once and tells it of repetitions, and returns the watches.
func repeat(t *testing.T, h *handler, r *dns.Msg, times int) (v answer.Verdict) {
	t.Helper()
	w := &test.ResponseWriter{RemoteIP: "10.240.0.1"}
	if _, err := h.ServeDNS(answer.WithVerdict(t.Context(), &v), w, r); err != nil {
		t.Fatal(err)
	}
	if _, ok := v.Shareable(); !ok {
		return v
	}
	for _, o := range v.Watches() {
		if o.To != answer.Watcher(&h.lines) || o.Packets || o.Size < 50 {
			t.Errorf("watch %+v", o)
		}
		for i := range times {
			o.To.Repeated(o.Note, &answer.Repetition{
				Client: netip.MustParseAddrPort("10.240.0.1:40212"), ID: r.Id, Took: time.Duration(i) * time.Microsecond,
			})
		}
		o.To.Flush()
	}
	return v
}

// TestRepetitions: a repetition's line is the chain's, whatever the log package adds.
func TestRepetitions(t *testing.T) {
	later := time.Now().Add(time.Hour)
	good := responder(func(r *dns.Msg) (*dns.Msg, int, error) {
		return reply(r, "example.org. 5 IN A 192.0.2.1"), dns.RcodeSuccess, nil
	}, later)
	for name, tc := range map[string]struct {
		format, prefix string
		flags          int
	}{
		"text": {"text", "", 0}, "with time": {"text", "", stdlog.LstdFlags}, "prefixed": {"text", "p ", stdlog.LstdFlags},
		"other flags": {"text", "", stdlog.Ldate | stdlog.Lmsgprefix}, "JSON": {"json", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			out := written(t, tc.format, tc.flags)
			if tc.prefix != "" {
				stdlog.SetPrefix(tc.prefix)
				defer stdlog.SetPrefix("")
			}
			h := newHandler(t, "log . \"{common} {local} {remote}\"", good)
			r := new(dns.Msg).SetQuestion("Example.ORG.", dns.TypeA).SetEdns0(1232, true)
			const times = 1000
			repeat(t, h, r, times)
			lines := strings.SplitAfter(out.String(), "\n")
			if len(lines) != times+2 || lines[times+1] != "" {
				t.Fatalf("%d lines", len(lines))
			}
			even := func(line string) string {
				line = regexp.MustCompile(`\d\d:\d\d:\d\d\S*|"duration_seconds":[\d.e-]+`).ReplaceAllString(line, "T")
				return regexp.MustCompile(`[\d.e-]+s `).ReplaceAllString(line, "Ns ")
			}
			for _, l := range lines[1 : times+1] {
				if d := cmp.Diff(even(lines[0]), even(l)); d != "" {
					t.Fatal(d)
				}
			}
		})
	}
}

func TestWatch(t *testing.T) {
	later := time.Now().Add(time.Hour)
	plain := func(r *dns.Msg) (*dns.Msg, int, error) {
		return reply(r, "example.org. 5 IN A 192.0.2.1"), dns.RcodeSuccess, nil
	}
	// signed gives a signature that is good until an hour's part from now.
	signed := func(good time.Duration) func(r *dns.Msg) (*dns.Msg, int, error) {
		return func(r *dns.Msg) (*dns.Msg, int, error) {
			stamp := func(d time.Duration) string { return time.Now().Add(d).UTC().Format("20060102150405") }
			m := reply(r, "example.org. 5 IN A 192.0.2.1", "example.org. 5 IN RRSIG A 8 2 5 "+stamp(good)+" "+stamp(-time.Hour)+" 1 example.org. AAAA")
			m.SetEdns0(1232, true)
			return m, dns.RcodeSuccess, nil
		}
	}
	for name, tc := range map[string]struct {
		text  string
		next  func(*dns.Msg) (*dns.Msg, int, error)
		oneIn uint32 // 0: nobody watches
		veto  string
	}{
		"all":                {"log", plain, 1, ""},
		"sampled":            {"log {\nsample 7\n}", plain, 7, ""},
		"another class":      {"log {\nclass error\n}", plain, 0, ""},
		"another name":       {"log example.net", plain, 0, ""},
		"signed":             {"log", signed(2 * time.Hour), 1, ""},
		"signed, runs out":   {"log {\nclass error\n}", signed(time.Minute), 0, "log"},
		"signed, has run":    {"log {\nclass error\n}", signed(-time.Minute), 1, ""},
		"not to be repeated": {"log", func(*dns.Msg) (*dns.Msg, int, error) { return nil, dns.RcodeSuccess, nil }, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			written(t, "text", 0)
			v := repeat(t, newHandler(t, tc.text, responder(tc.next, later)), new(dns.Msg).SetQuestion("example.org.", dns.TypeA), 1)
			var oneIn uint32
			for _, w := range v.Watches() {
				oneIn = w.OneIn
			}
			if oneIn != tc.oneIn || v.Vetoed() != tc.veto {
				t.Errorf("one in %d, veto %q; want %d, %q", oneIn, v.Vetoed(), tc.oneIn, tc.veto)
			}
		})
	}
}

func BenchmarkRepeated(b *testing.B) {
	was := stdlog.Writer()
	stdlog.SetOutput(discard{})
	defer stdlog.SetOutput(was)
	rules, err := parse(caddy.NewTestController("dns", "log"))
	if err != nil {
		b.Fatal(err)
	}
	h := &handler{rules: rules, next: responder(func(r *dns.Msg) (*dns.Msg, int, error) {
		return reply(r, "example.org. 5 IN A 192.0.2.1"), dns.RcodeSuccess, nil
	}, time.Now().Add(time.Hour))}
	var v answer.Verdict
	if _, err := h.ServeDNS(answer.WithVerdict(b.Context(), &v), &test.ResponseWriter{}, new(dns.Msg).SetQuestion("example.org.", dns.TypeA)); err != nil {
		b.Fatal(err)
	}
	w := v.Watches()[0]
	r := &answer.Repetition{Client: netip.MustParseAddrPort("10.240.0.1:40212"), ID: 4660, Took: 3217 * time.Nanosecond}
	for b.Loop() {
		w.To.Repeated(w.Note, r)
	}
}

// discard is an output that is not known to be one.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
