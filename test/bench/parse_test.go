package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const genLine = `{"sent":200,"answered":190,"lost":10,"strange":0,"truncated":3,"empty":2,"seconds":0.500000,"p50_us":41.00,"p99_us":90.50,"p999_us":120.00,"max_us":130.00,"rcodes":{"0":185,"2":5}}
`

const perfText = `DNS Performance Testing Tool
Version 2.11.2

[Status] Command line: dnsperf -s 127.0.0.1
[Status] Sending queries (to 127.0.0.1:53)

Statistics:

  Queries sent:         1100
  Queries completed:    1000 (90.91%)
  Queries lost:         100 (9.09%)

  Response codes:       NOERROR 950 (95.00%), SERVFAIL 50 (5.00%)
  Average packet size:  request 34, response 50
  Run time (s):         2.500000
  Queries per second:   400.000000

  Average Latency (s):  0.000500 (min 0.000010, max 0.010000)
`

func TestParseGenerators(t *testing.T) {
	gen, err := parseGen([]byte(genLine))
	if err != nil {
		t.Fatal(err)
	}
	want := reply{
		Sent: 200, Answered: 190, Lost: 10, Truncated: 3, Empty: 2, Seconds: 0.5, P50: 41, P99: 90.5, P999: 120,
		RCodes: map[string]int64{"0": 185, "2": 5},
	}
	if d := cmp.Diff(want, gen); d != "" {
		t.Error(d)
	}
	if gen.wrong() != 10 {
		t.Errorf("wrong() = %d, want 5 SERVFAIL, 3 truncated, 2 empty", gen.wrong())
	}

	perf, err := parseDnsperf(perfText)
	if err != nil {
		t.Fatal(err)
	}
	want = reply{Sent: 1100, Answered: 1000, Lost: 100, Seconds: 2.5, RCodes: map[string]int64{"0": 950, "SERVFAIL": 50}}
	if d := cmp.Diff(want, perf); d != "" {
		t.Error(d)
	}

	for name, f := range map[string]func() error{
		"gen, nothing answered":     func() error { _, err := parseGen([]byte(`{"sent":5,"seconds":1}`)); return err },
		"gen, no JSON":              func() error { _, err := parseGen([]byte("gen: bind")); return err },
		"dnsperf, nothing answered": func() error { _, err := parseDnsperf("Queries sent: 5"); return err },
	} {
		if f() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestLoadArgs(t *testing.T) {
	l := load{port: 5400, file: "q", window: 192, count: 10, seconds: 1.5, edns: true, unique: 7, timeout: 100 * time.Millisecond}
	if got, want := strings.Join(l.args(), " "), "-s 127.0.0.1 -p 5400 -d q -c 8 -w 192 -n 10 -l 1.5 -t 100 -e -u 7"; got != want {
		t.Errorf("window: %s, want %s", got, want)
	}
	l = load{port: 5400, file: "q", window: 192, rate: 5000}
	if got, want := strings.Join(l.args(), " "), "-s 127.0.0.1 -p 5400 -d q -c 8 -r 5000 -l 600"; got != want {
		t.Errorf("rate: %s, want %s", got, want)
	}
}

func TestParseStat(t *testing.T) {
	text := "12 (a ) b) S 1 12 12 0 -1 4194560 100 0 0 0 250 50 7 7 20 0 3 0 999 1000000 256 184467 1 1"
	u, err := parseStat([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if u.user != 2500*time.Millisecond || u.system != 500*time.Millisecond || u.rss != 256*4096 {
		t.Errorf("got %+v", u)
	}
	for _, bad := range []string{"", "12 (a) S 1 2", "no brackets", strings.Replace(text, "250", "x", 1)} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestFindVersion(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"dnsmasq", "Dnsmasq version 2.90  Copyright (c)", "2.90"},
		{"knot-resolver", "Knot Resolver, version 5.6.0\n", "5.6.0"},
		{"coredns", "CoreDNS-1.15.0\nlinux/amd64, go1.26.8, \n", "1.15.0"},
		{"pdns-recursor", "Nov 23 19:30:09 PowerDNS Recursor 4.8.8 (C)", "4.8.8"},
		{"named", "BIND 9.18.49-1~deb12u3-Debian (Extended", "9.18.49-1~deb12u3-Debian"},
		{"gcc", "gcc (Debian 12.2.0-14+deb12u1) 12.2.0\nCopyright", "12.2.0"},
		{"unbound", "nothing", "of unknown version"},
	} {
		for _, v := range versionCommands {
			if v.name == c.name {
				if got := findVersion(c.text, v.pattern); got != c.want {
					t.Errorf("%s: %q, want %q", c.name, got, c.want)
				}
			}
		}
	}
}

func TestList(t *testing.T) {
	if d := cmp.Diff([]string{"unbound", "resolverd, log", "floor"}, list("unbound,resolverd, log,floor")); d != "" {
		t.Error(d)
	}
	if list("") != nil {
		t.Error("an empty list is everything")
	}
}
