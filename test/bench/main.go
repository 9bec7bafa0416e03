// Command bench measures resolverd beside its peers on one machine: server CPU per
// answered query, in interleaved rounds, on loopback in a network namespace of its own.
//
// Each server is given the same upstream (nsd with 10,000 names) and the same queries by
// dnsperf. The figure is (user + system time of the server after - before) / answers, the
// one that holds on a shared machine; ratios are to resolverd.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 5, "interleaved rounds; the median counts")
	seconds := flag.Int("seconds", 4, "seconds of load in each round")
	only := flag.String("only", "", "run this row alone: cached, forwarded or registry")
	out := flag.String("write", "", "replace the speed section of this Markdown file")
	flag.Parse()

	if os.Getenv("RDBENCH_NAMESPACE") == "" {
		os.Exit(enterNamespace())
	}
	if err := run(*rounds, time.Duration(*seconds)*time.Second, *only, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
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

func run(rounds int, load time.Duration, only, out string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := exec.CommandContext(ctx, "ip", "link", "set", "lo", "up").Run(); err != nil {
		return fmt.Errorf("ip link set lo up: %w", err)
	}
	dir, err := os.MkdirTemp("", "rdbench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{ctx: ctx, dir: dir, rounds: rounds, load: load}
	defer b.stopAll()
	if err := b.upstream(); err != nil {
		return err
	}
	var tables []table
	for _, r := range rows {
		if only != "" && only != r.name {
			continue
		}
		t, err := b.row(r)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		fmt.Println(t.markdown())
		tables = append(tables, t)
	}
	if out == "" {
		return nil
	}
	return replaceSection(filepath.Clean(out), tables, machine())
}
