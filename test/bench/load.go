package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// reply is what a generator saw.
type reply struct {
	Sent      int64            `json:"sent"`
	Answered  int64            `json:"answered"`
	Lost      int64            `json:"lost"`
	Truncated int64            `json:"truncated"`
	Empty     int64            `json:"empty"` // NOERROR without an answer
	Seconds   float64          `json:"seconds"`
	P50       float64          `json:"p50_us"` // 0 with dnsperf, which has none
	P99       float64          `json:"p99_us"`
	P999      float64          `json:"p999_us"`
	RCodes    map[string]int64 `json:"rcodes"`
}

// wrong counts answers that are not what was asked for.
func (r reply) wrong() int64 {
	return r.Answered - r.RCodes["0"] + r.Truncated + r.Empty
}

// load is one run of a generator.
type load struct {
	port    int
	file    string // queries
	window  int    // queries under way, or
	rate    int    // queries/s
	count   int    // bounds, the first counts; 0 is none
	seconds float64
	timeout time.Duration
	edns    bool
	unique  uint64 // not 0: seed of labels before each name
}

// args is the command line of our generator.
func (l load) args() []string {
	a := []string{"-s", "127.0.0.1", "-p", fmt.Sprint(l.port), "-d", l.file, "-c", "8"}
	if l.rate > 0 {
		a = append(a, "-r", fmt.Sprint(l.rate))
	} else {
		a = append(a, "-w", fmt.Sprint(l.window))
	}
	if l.count > 0 {
		a = append(a, "-n", fmt.Sprint(l.count))
	}
	seconds := l.seconds
	if seconds == 0 {
		seconds = 600
	}
	a = append(a, "-l", fmt.Sprint(seconds))
	if l.timeout > 0 {
		a = append(a, "-t", fmt.Sprint(l.timeout.Milliseconds()))
	}
	if l.edns {
		a = append(a, "-e")
	}
	if l.unique != 0 {
		a = append(a, "-u", fmt.Sprint(l.unique))
	}
	return a
}

// perfArgs is the command line of dnsperf.
func (l load) perfArgs() []string {
	a := []string{"-s", "127.0.0.1", "-p", fmt.Sprint(l.port), "-d", l.file, "-c", "8", "-q", "200", "-T", "1", "-l", fmt.Sprint(max(1, int(l.seconds)))}
	if l.edns {
		a = append(a, "-e")
	}
	return a
}

func (b *bench) gen(l load) (reply, error) {
	out, err := b.output(tool("gen"), l.args()...)
	if err != nil {
		return reply{}, err
	}
	return parseGen(out)
}

func (b *bench) dnsperf(l load) (reply, error) {
	out, err := b.output(tool("dnsperf"), l.perfArgs()...)
	if err != nil {
		return reply{}, err
	}
	return parseDnsperf(string(out))
}

func (b *bench) output(name string, args ...string) ([]byte, error) {
	out, err := exec.CommandContext(b.ctx, name, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil, fmt.Errorf("%s: %w\n%s", name, err, exit.Stderr)
	}
	return out, err
}

func parseGen(out []byte) (reply, error) {
	var r reply
	if err := json.Unmarshal(out, &r); err != nil {
		return r, fmt.Errorf("gen: %w", err)
	}
	return r, r.check()
}

var (
	perfSent    = regexp.MustCompile(`Queries sent:\s+(\d+)`)
	perfDone    = regexp.MustCompile(`Queries completed:\s+(\d+)`)
	perfLost    = regexp.MustCompile(`Queries lost:\s+(\d+)`)
	perfSeconds = regexp.MustCompile(`Run time \(s\):\s+([\d.]+)`)
	perfCodes   = regexp.MustCompile(`Response codes:\s+(.*)`)
	perfCode    = regexp.MustCompile(`([A-Z0-9]+) (\d+) \(`)
)

func parseDnsperf(text string) (reply, error) {
	r := reply{RCodes: map[string]int64{}}
	r.Sent, r.Answered, r.Lost = int64(number(text, perfSent)), int64(number(text, perfDone)), int64(number(text, perfLost))
	r.Seconds = number(text, perfSeconds)
	if m := perfCodes.FindStringSubmatch(text); m != nil {
		for _, c := range perfCode.FindAllStringSubmatch(m[1], -1) {
			n, _ := strconv.ParseInt(c[2], 10, 64)
			name := c[1]
			if name == "NOERROR" {
				name = "0"
			}
			r.RCodes[name] += n
		}
	}
	if err := r.check(); err != nil {
		return r, fmt.Errorf("dnsperf: %w\n%s", err, text)
	}
	return r, nil
}

func (r reply) check() error {
	if r.Answered <= 0 || r.Seconds <= 0 {
		return fmt.Errorf("none of %d queries was answered", r.Sent)
	}
	return nil
}

func number(text string, pattern *regexp.Regexp) float64 {
	m := pattern.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	f, _ := strconv.ParseFloat(m[1], 64)
	return f
}
