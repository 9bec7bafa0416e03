package rrl

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/resolverd/resolverd/internal/ratelimit"
	"github.com/resolverd/resolverd/internal/resident"
)

const hexSecret = "e5e973e5a6b2a43f48e7dc849e37bfcf"

// secretFile writes a file of secrets.
func secretFile(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestParse(t *testing.T) {
	with := func(change func(*ratelimit.Settings)) ratelimit.Settings {
		s := ratelimit.Default()
		change(&s)
		return s
	}
	for text, want := range map[string]ratelimit.Settings{
		"rrl":                        ratelimit.Default(),
		"rrl {}":                     ratelimit.Default(),
		"rrl {\n}":                   ratelimit.Default(),
		"rrl {\nresponses 50\n}":     with(func(s *ratelimit.Settings) { s.Rates = [3]uint32{50, 50, 50} }),
		"rrl {\nresponses off\n}":    with(func(s *ratelimit.Settings) { s.Rates = [3]uint32{} }),
		"rrl {\nerrors 5\n}":         with(func(s *ratelimit.Settings) { s.Rates = [3]uint32{200, 200, 5} }),
		"rrl {\nloopback\nslip 0\n}": with(func(s *ratelimit.Settings) { s.Loopback, s.Slip = true, 0 }),
		"rrl {\nerrors 3\ndenials off\nresponses 1\nburst 250ms\nslip 15\nprefix 32 64\nexempt 10.0.0.0/8 ::1\nexempt 192.0.2.7\n}": {
			Rates: [3]uint32{1, 0, 3}, Burst: time.Second / 4, Slip: 15, Bits4: 32, Bits6: 64,
			Exempt: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("192.0.2.7/32")},
		},
	} {
		opt, err := parse(caddy.NewTestController("dns", text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if d := cmp.Diff(want, opt.settings, cmpopts.EquateComparable(netip.Prefix{})); d != "" {
			t.Errorf("%q:\n%s", text, d)
		}
		if opt.secrets != nil {
			t.Errorf("%q has secrets", text)
		}
	}
	opt, err := parse(caddy.NewTestController("dns", "rrl {\ncookie_secret "+secretFile(t, hexSecret, 0o600)+"\n}"))
	if err != nil || len(opt.secrets) != 1 {
		t.Errorf("%d secrets, %v", len(opt.secrets), err)
	}
}

func TestErrors(t *testing.T) {
	open := secretFile(t, hexSecret, 0o644)
	for text, want := range map[string]string{
		"rrl 50":                                 "takes no arguments, but \"50\": rates stand in its block",
		"rrl\nrrl":                               "this plugin can only be used once",
		"rrl {\nresponses-per-second 5\n}":       "unknown property \"responses-per-second\": burst, cookie_secret, denials, errors",
		"rrl {\nresponses\n}":                    "Wrong argument count",
		"rrl {\nresponses 5 6\n}":                "Wrong argument count",
		"rrl {\nloopback yes\n}":                 "Wrong argument count",
		"rrl {\nexempt\n}":                       "Wrong argument count",
		"rrl {\nprefix 24\n}":                    "Wrong argument count",
		"rrl {\nresponses 0\n}":                  "\"0\" is no rate: want responses a second, 1 to 100000, or off",
		"rrl {\nresponses 100001\n}":             "\"100001\" is no rate",
		"rrl {\nerrors -1\n}":                    "\"-1\" is no rate",
		"rrl {\nerrors 5\nerrors 5\n}":           "errors is written twice",
		"rrl {\nburst 5\n}":                      "burst 5: want a time of at most 1m0s, such as 1s",
		"rrl {\nburst 61s\n}":                    "burst 61s: want a time",
		"rrl {\nburst -1s\n}":                    "burst -1s: want a time",
		"rrl {\nslip 16\n}":                      "slip 16: want a number from 0 to 15",
		"rrl {\nprefix 33 56\n}":                 "prefix for IPv4 33: want a number from 1 to 32",
		"rrl {\nprefix 24 65\n}":                 "prefix for IPv6 65: want a number from 1 to 64",
		"rrl {\nprefix 0 56\n}":                  "prefix for IPv4 0",
		"rrl {\nexempt 10.0.0.1/8\n}":            "exempt: \"10.0.0.1/8\" has bits set behind its length: did you mean 10.0.0.0/8?",
		"rrl {\nexempt office\n}":                "exempt: \"office\" is neither an address nor a prefix",
		"rrl {\ncookie_secret /nonexistent/s\n}": "cookie_secret: cookie: open /nonexistent/s",
		"rrl {\ncookie_secret " + open + "\n}":   "others can get at the secret",
		"rrl {\nresponses 5\nwhat\n}":            "Testfile:3 - Error during parsing: unknown property \"what\"",
	} {
		_, err := parse(caddy.NewTestController("dns", text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), hexSecret[:8]) {
			t.Errorf("%q tells the secret: %v", text, err)
		}
	}
}

// TestStateOutlivesReload: neither a new rate nor a refused Corefile gives a prefix that is
// at its limit a new beginning.
func TestStateOutlivesReload(t *testing.T) {
	t.Cleanup(func() { resident.Shutdown() })
	now, client := time.Now(), netip.MustParseAddr("192.0.2.1")
	open := func(rate uint32) *Handler {
		opt := options{settings: ratelimit.Default()}
		opt.settings.Rates[0] = rate
		h, err := newHandler("block", opt)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	first := open(1)
	first.limiter.Limit(client, ratelimit.Answer, now)
	second := open(2)
	if first.keeper != second.keeper {
		t.Error("the cookies' secret is another one")
	}
	if v := first.limiter.Limit(client, ratelimit.Answer, now); v == ratelimit.Pass {
		t.Error("the limit is not kept")
	}
	if second.limiter.Limit(client, ratelimit.Answer, now) == ratelimit.Pass {
		t.Error("the reload gave it a new beginning")
	}
	other, err := newHandler("another", options{settings: ratelimit.Default()})
	if err != nil {
		t.Fatal(err)
	}
	if other.limiter.Limit(client, ratelimit.Answer, now) != ratelimit.Pass || other.keeper != first.keeper {
		t.Error("another block shares the wrong things")
	}
}
