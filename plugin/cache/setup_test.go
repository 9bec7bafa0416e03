package cache

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	engine "github.com/resolverd/resolverd/cache"
	"github.com/resolverd/resolverd/internal/resident"
)

var compareOptions = cmp.Options{
	cmp.AllowUnexported(options{}, prefetch{}, stale{}),
	cmp.Comparer(func(a, b engine.Terms) bool { return reflect.DeepEqual(a, b) }),
}

func TestParse(t *testing.T) {
	with := func(change func(*options)) options {
		o := defaults()
		// Without zones those of the server block count, of which a test has none.
		o.zones = nil
		change(&o)
		return o
	}
	for _, tc := range []struct {
		in   string
		want options
	}{
		{"cache", with(func(*options) {})},
		{"cache {}", with(func(*options) {})},
		{"cache 25", with(func(o *options) { o.terms.MaxSuccess, o.terms.MaxDenial = 25*time.Second, 25*time.Second })},
		{"cache aaa example.NL", with(func(o *options) { o.zones = []string{"aaa.", "example.nl."} })},
		{"cache 25 example.nl {\nsuccess 10\ndenial 20 15 2\n}", with(func(o *options) {
			o.zones = []string{"example.nl."}
			o.size.Success, o.size.Denial = 10, 20
			o.terms.MaxSuccess, o.terms.MaxDenial, o.terms.MinDenial = 25*time.Second, 15*time.Second, 2*time.Second
		})},
		{"cache {\nsuccess 10 1800 30\n}", with(func(o *options) {
			o.size.Success, o.terms.MaxSuccess, o.terms.MinSuccess = 10, 30*time.Minute, 30*time.Second
		})},
		{"cache {\nsuccess 10 1 0\n}", with(func(o *options) {
			o.size.Success, o.terms.MaxSuccess, o.terms.MinSuccess = 10, time.Second, 0
		})},
		{"cache {\nprefetch 10\n}", with(func(o *options) { o.prefetch.amount = 10 })},
		{"cache {\nprefetch 10 2m\n}", with(func(o *options) { o.prefetch.amount, o.prefetch.window = 10, 2*time.Minute })},
		{"cache {\nprefetch 10 2m 25%\n}", with(func(o *options) { o.prefetch = prefetch{10, 2 * time.Minute, 25} })},
		{"cache {\nservfail 1s\n}", with(func(o *options) { o.terms.Failure = time.Second })},
		{"cache {\nservfail 0\n}", with(func(o *options) { o.terms.Failure = 0 })},
		{"cache {\nservfail 5m\n}", with(func(o *options) { o.terms.Failure = 5 * time.Minute })},
		{"cache {\ndisable success\n}", with(func(o *options) { o.noSuccess = []string{"."} })},
		{"cache {\ndisable denial example.com Example.org\ndisable success example.net\n}", with(func(o *options) {
			o.noDenial, o.noSuccess = []string{"example.com.", "example.org."}, []string{"example.net."}
		})},
		{"cache {\nkeepttl\n}", with(func(o *options) { o.keepTTL = true })},
		{"cache {\nsnapshot off\n}", with(func(o *options) { o.snapshot = 0 })},
		{"cache {\nsnapshot 1m\n}", with(func(o *options) { o.snapshot = time.Minute })},
		{"cache {\nttl example.ORG 5 60\nttl . AAAA https 0 30\n}", with(func(o *options) {
			o.bounds = []engine.Bound{
				{Zone: "example.org.", Min: 5 * time.Second, Max: time.Minute},
				{Zone: ".", Type: dns.TypeAAAA, Max: 30 * time.Second},
				{Zone: ".", Type: dns.TypeHTTPS, Max: 30 * time.Second},
			}
			o.terms, _ = o.terms.WithBounds(o.bounds)
		})},
		{"cache {\nbytes 64MiB\n}", with(func(o *options) { o.size.Bytes = 64 << 20 })},
		{"cache {\nbytes 2g\n}", with(func(o *options) { o.size.Bytes = 2 << 30 })},
		{"cache {\nbytes 5MB\n}", with(func(o *options) { o.size.Bytes = 5e6 })},
		{"cache {\nbytes 1048576\n}", with(func(o *options) { o.size.Bytes = 1 << 20 })},
		{"cache {\nbytes 4096KiB\n}", with(func(o *options) { o.size.Bytes = 4 << 20 })},

		{"cache {\nserve_stale\n}", with(func(o *options) { o.stale.upTo = time.Hour })},
		{"cache {\nserve_stale 1h20m\n}", with(func(o *options) { o.stale.upTo = 80 * time.Minute })},
		{"cache {\nserve_stale 0\n}", with(func(*options) {})},
		{"cache {\nserve_stale 0 VERIFY\n}", with(func(o *options) { o.stale.verify = true })},
		{"cache {\nserve_stale 1h immediate 30s\n}", with(func(o *options) { o.stale = stale{upTo: time.Hour, ttl: 30 * time.Second} })},
		{"cache {\nserve_stale 1h immediate 4294967295s\n}", with(func(o *options) { o.stale = stale{upTo: time.Hour, ttl: 4294967295 * time.Second} })},
		{"cache {\nserve_stale 1h immediate 30s 10s\n}", with(func(o *options) {
			o.stale = stale{upTo: time.Hour, ttl: 30 * time.Second, recheck: 10 * time.Second}
		})},
		{"cache {\nserve_stale 1h verify\n}", with(func(o *options) { o.stale = stale{upTo: time.Hour, verify: true} })},
		{"cache {\nserve_stale 1h verify 100ms\n}", with(func(o *options) {
			o.stale = stale{upTo: time.Hour, verify: true, timeout: 100 * time.Millisecond}
		})},
		{"cache {\nserve_stale 1h verify 0 1m\n}", with(func(o *options) { o.stale = stale{upTo: time.Hour, verify: true, ttl: time.Minute} })},
		{"cache {\nserve_stale 1h verify 100ms 30s 5m\n}", with(func(o *options) {
			o.stale = stale{upTo: time.Hour, verify: true, timeout: 100 * time.Millisecond, ttl: 30 * time.Second, recheck: 5 * time.Minute}
		})},
		{"cache {\nserve_stale_policy PREFER_POSITIVE\nserve_stale\n}", with(func(o *options) {
			o.stale = stale{upTo: time.Hour, preferPositive: true}
		})},
	} {
		t.Run(tc.in, func(t *testing.T) {
			got, err := parse(caddy.NewTestController("dns", tc.in))
			if err != nil {
				t.Fatal(err)
			}
			if len(got.zones) == 0 {
				got.zones = nil
			}
			if d := cmp.Diff(tc.want, got, compareOptions); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for in, say := range map[string]string{
		"cache\ncache":                                      "once",
		"cache 0":                                           "TTL 0",
		"cache -1 example.nl":                               "TTL -1",
		"cache {\npositive 15\n}":                           `unknown option "positive"`,
		"cache {\nsuccess\n}":                               "Wrong argument count",
		"cache {\nsuccess 1 2 3 4\n}":                       "Wrong argument count",
		"cache {\nsuccess aaa\n}":                           `"aaa"`,
		"cache {\nsuccess -5\n}":                            `"-5"`,
		"cache {\nsuccess 5 0\n}":                           "TTL 0",
		"cache {\nsuccess 5 x\n}":                           `"x"`,
		"cache {\nsuccess 5 5 -1\n}":                        `"-1"`,
		"cache {\ndenial aaa\n}":                            `"aaa"`,
		"cache {\nbytes\n}":                                 "Wrong argument count",
		"cache {\nbytes 1MiB 2MiB\n}":                       "Wrong argument count",
		"cache {\nbytes 12\n}":                              `"12"`,
		"cache {\nbytes 64XB\n}":                            `"64XB"`,
		"cache {\nbytes MiB\n}":                             `"MiB"`,
		"cache {\nbytes -1GiB\n}":                           `"-1GiB"`,
		"cache {\nbytes 99999999999GiB\n}":                  "GiB",
		"cache {\nbytes 9223372036854775807\n":              "9223372036854775807",
		"cache {\nprefetch\n}":                              "Wrong argument count",
		"cache {\nprefetch -1\n}":                           `"-1"`,
		"cache {\nprefetch 0 blurp\n}":                      "duration",
		"cache {\nprefetch 1 1m 50\n}":                      "%",
		"cache {\nprefetch 1 1m 5%\n}":                      "10%",
		"cache {\nprefetch 1 1m 50% x\n}":                   "Wrong argument count",
		"cache {\nserve_stale 20\n}":                        "duration",
		"cache {\nserve_stale -20m\n}":                      "negative",
		"cache {\nserve_stale 1m nono\n}":                   "neither immediate nor verify",
		"cache {\nserve_stale 1h immediate 100ms\n}":        "whole number",
		"cache {\nserve_stale 1h immediate 4294967296s\n}":  "does not fit",
		"cache {\nserve_stale 1h immediate -1s\n}":          "negative",
		"cache {\nserve_stale 1h immediate garbage\n}":      "TTL",
		"cache {\nserve_stale 1h immediate 30s 30s x\n}":    "Wrong argument count",
		"cache {\nserve_stale 1h immediate 30s 5m1s\n}":     "over 5m0s",
		"cache {\nserve_stale 1h immediate 30s -1s\n}":      "negative",
		"cache {\nserve_stale 1h verify -1ms\n}":            "negative",
		"cache {\nserve_stale 1h verify garbage\n}":         "timeout",
		"cache {\nserve_stale 1h verify 100ms 500ms\n}":     "whole number",
		"cache {\nserve_stale 1h verify 100ms 30s 30s x\n}": "Wrong argument count",
		"cache {\nserve_stale_policy prefer_positive\n}":    "needs serve_stale",
		"cache {\nserve_stale\nserve_stale_policy\n}":       "Wrong argument count",
		"cache {\nserve_stale\nserve_stale_policy other\n}": "other",
		"cache {\nserve_stale\nserve_stale_policy a b\n}":   "Wrong argument count",
		"cache {\nserve_stale\nserve_stale_policy prefer_positive\nserve_stale_policy prefer_positive\n}": "once",
		"cache {\nservfail\n}":                   "Wrong argument count",
		"cache {\nservfail 6m\n}":                "over 5m0s",
		"cache {\nservfail 20\n}":                "servfail",
		"cache {\nservfail -1s\n}":               "negative",
		"cache {\nservfail 1m x\n}":              "Wrong argument count",
		"cache {\ndisable\n}":                    "Wrong argument count",
		"cache {\ndisable invalid example.com\n": "neither success nor denial",
		"cache {\nkeepttl x\n}":                  "Wrong argument count",
		"cache {\nsnapshot\n}":                   "Wrong argument count",
		"cache {\nsnapshot 1s\n}":                "10s or more",
		"cache {\nsnapshot on\n}":                "neither off nor an interval",
		"cache {\nttl 5 60\n}":                   "Wrong argument count",
		"cache {\nttl 5 60 70\n}":                "the zone is missing",
		"cache {\nttl . 60 5\n}":                 "above the most",
		"cache {\nttl . 5 0\n}":                  "not a number of seconds",
		"cache {\nttl . NOSUCH 5 60\n}":          "no type of data",
		"cache {\nttl . AXFR 5 60\n}":            "no type of data",
		"cache {\nttl . 5 60\nttl . 6 70\n}":     "bounded twice",
	} {
		t.Run(in, func(t *testing.T) {
			_, err := parse(caddy.NewTestController("dns", in))
			if err == nil {
				t.Fatal("was taken")
			}
			if !strings.Contains(err.Error(), say) {
				t.Errorf("%q does not say %q", err, say)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("cache 30 example.org {\nsuccess 10 20 5\nprefetch 1 1m 10%\nserve_stale 1h verify 1s 30s 30s\nbytes 64MiB\n}")
	f.Add("cache {\nprefetch 1 1m \"\"\n}")
	f.Fuzz(func(t *testing.T, in string) {
		opt, err := parse(caddy.NewTestController("dns", in))
		if err != nil {
			return
		}
		if err := opt.size.Validate(); err != nil {
			t.Errorf("%v", err)
		}
		if opt.terms.MaxSuccess <= 0 || opt.terms.MaxDenial <= 0 || opt.terms.MinSuccess < 0 || opt.terms.Failure < 0 || opt.stale.upTo < 0 || opt.prefetch.percent < 10 {
			t.Errorf("%+v", opt)
		}
	})
}

// A reload finds the entries of the same block again; a block that was edited, or that
// nobody named, begins anew, and what is no longer used is freed.
func TestStoreOutlivesReload(t *testing.T) {
	t.Cleanup(func() {
		resident.SetBlocks(nil)
		resident.Shutdown()
	})
	load := func(hash string, change func(*options)) *Store {
		t.Helper()
		opt := defaults()
		change(&opt)
		resident.Begin()
		resident.SetBlocks([]string{hash})
		c, own, err := open(resident.Block(0), opt)
		if err != nil || own {
			t.Fatalf("own %v, %v", own, err)
		}
		for _, err := range resident.Commit() {
			t.Error(err)
		}
		return c
	}
	same := func(*options) {}
	first := load("one", same)
	for name, tc := range map[string]struct {
		change func(*options)
		keeps  bool
	}{
		"nothing":  {same, true},
		"bytes":    {func(o *options) { o.size.Bytes = 2 << 20 }, true},
		"prefetch": {func(o *options) { o.prefetch.amount = 5 }, true},
		"stale":    {func(o *options) { o.stale.upTo = time.Hour }, true},
		"maximum":  {func(o *options) { o.terms.MaxSuccess = time.Minute }, false},
		"disabled": {func(o *options) { o.noDenial = []string{"."} }, false},
		"zones":    {func(o *options) { o.zones = []string{"example.org."} }, false},
	} {
		if got := load("one", tc.change); (got == first) != tc.keeps {
			t.Errorf("%s: the entries are kept: %v", name, got == first)
		}
		first = load("one", same)
	}
	if edited := load("two", same); edited == first {
		t.Error("the edited block has the old entries")
	}
	n := 0
	Each(func(*Store) { n++ })
	if n != 1 {
		t.Errorf("%d caches are held, want 1", n)
	}
	a, own, err := open("", defaults())
	if err != nil || !own {
		t.Fatal(own, err)
	}
	if b, _, _ := open("", defaults()); a == b {
		t.Error("two handlers without a block share entries")
	}
}

func TestSetup(t *testing.T) {
	c := caddy.NewTestController("dns", "cache 30 {\nbytes 2MiB\n}")
	if err := setup(c); err != nil {
		t.Fatal(err)
	}
	plugins := dnsserver.GetConfig(c).Plugin
	if len(plugins) != 1 {
		t.Fatalf("%d plugins", len(plugins))
	}
	h, ok := plugins[0](nil).(*Handler)
	if !ok || h.Name() != "cache" {
		t.Fatalf("got %T", plugins[0](nil))
	}
	if b := h.store.Stats().Budget; b != 2<<20 {
		t.Errorf("budget %d", b)
	}
	err := setup(caddy.NewTestController("dns", "cache {\nservfail 6m\n}"))
	if err == nil || !strings.Contains(err.Error(), "plugin/cache") || !strings.Contains(err.Error(), "Testfile:2") {
		t.Errorf("%v does not name the directive and the line", err)
	}
}

// The examples of the README are complete Corefiles whose cache blocks are taken.
func TestReadmeExamples(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, part := range strings.Split(string(text), "~~~ corefile\n")[1:] {
		block, _, _ := strings.Cut(part, "~~~")
		servers, err := caddyfile.Parse("README.md", strings.NewReader(block), nil)
		if err != nil {
			t.Errorf("%v in\n%s", err, block)
			continue
		}
		for _, s := range servers {
			tokens, ok := s.Tokens["cache"]
			if !ok {
				continue
			}
			c := &caddy.Controller{Dispenser: caddyfile.NewDispenserTokens("README.md", tokens), ServerBlockKeys: s.Keys}
			if _, err := parse(c); err != nil {
				t.Errorf("%v in\n%s", err, block)
			}
			n++
		}
	}
	if n < 4 {
		t.Errorf("only %d examples were found", n)
	}
}
