// Command bench measures resolverd beside its peers on one machine: server CPU per
// answered query, latency and memory, in interleaved rounds, on loopback in a network
// namespace of its own.
//
// All servers of a row have the same upstream (nsd) and get the same queries, from a
// generator of our own (csrc/gen.c) and from dnsperf. The figure that holds on a shared
// machine is (user + system time of all of the server's processes after - before) /
// answers, with a peer in the same run. csrc/floor.c is what the kernel's sockets cost
// alone.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "interleaved rounds; the median counts")
	flag.Float64Var(&o.seconds, "seconds", 3, "seconds of load in each round")
	flag.IntVar(&o.entries, "entries", 1_000_000, "cached answers in the row memory")
	rows := flag.String("row", "", "run these rows alone: "+strings.Join(rowNames(), ", "))
	modes := flag.String("mode", "", "run these modes alone: saturated, dnsperf, paced, half, even, rates")
	servers := flag.String("server", "", "run these servers alone, as named in the tables")
	write := flag.String("write", "", "replace the section of this Markdown file, and the plots in bench/ beside it")
	plots := flag.String("plots", "", "write plots into this directory")
	flag.Parse()
	o.rows, o.modes, o.servers = list(*rows), list(*modes), list(*servers)
	if *write != "" && *plots == "" {
		*plots = filepath.Join(filepath.Dir(*write), "bench")
	}

	if os.Getenv("RDBENCH_NAMESPACE") == "" {
		os.Exit(enterNamespace())
	}
	if err := run(o, *write, *plots); err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

// options say how much is run. Empty lists are everything.
type options struct {
	rounds               int
	seconds              float64
	entries              int
	rows, modes, servers []string
}

// list splits at commas. "resolverd, log" is the name of one server, so a comma before a
// space separates nothing.
func list(s string) []string {
	var l []string
	for _, f := range strings.Split(s, ",") {
		switch {
		case strings.HasPrefix(f, " ") && len(l) > 0:
			l[len(l)-1] += "," + f
		case f != "":
			l = append(l, f)
		}
	}
	return l
}

func enterNamespace() int {
	c := exec.Command("unshare", append([]string{"--net", "--", os.Args[0]}, os.Args[1:]...)...)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	c.Env = append(os.Environ(), "RDBENCH_NAMESPACE=1")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := c.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err, "(it needs root, for a network namespace)")
		return 1
	}
	return 0
}

func run(o options, write, plots string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	began := time.Now()
	if err := exec.CommandContext(ctx, "ip", "link", "set", "lo", "up").Run(); err != nil {
		return fmt.Errorf("ip link set lo up: %w", err)
	}
	if err := compile(ctx, binDir); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "rdbench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{ctx: ctx, dir: dir, options: o, started: make(map[string][]string)}
	defer b.stopAll()
	if err := b.upstream(); err != nil {
		return err
	}
	rep := report{machine: machine(), versions: versions(ctx), options: o}
	for _, r := range rows {
		if !chosen(o.rows, r.name) {
			continue
		}
		tables, err := b.row(r)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		fmt.Println(rowMarkdown(tables))
		rep.tables = append(rep.tables, tables...)
		rep.configs = append(rep.configs, b.commands(r)...)
	}
	if chosen(o.rows, memoryRow) && (len(o.modes) == 0 || len(o.rows) > 0) {
		m, err := b.memory()
		if err != nil {
			return fmt.Errorf("%s: %w", memoryRow, err)
		}
		fmt.Println(memoryMarkdown(m, o.entries))
		rep.memory = m
	}
	rep.took = time.Since(began)
	fmt.Println(goalsMarkdown(judge(rep.tables, rep.memory)))
	if plots != "" {
		if rep.plots, err = drawAll(plots, rep.tables); err != nil {
			return err
		}
	}
	if write == "" {
		return nil
	}
	return replaceSection(filepath.Clean(write), rep.markdown())
}
