package main

import (
	"context"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// binDir is where the Makefile puts what it builds.
const binDir = ".cache/bin"

//go:embed csrc/*.c
var sources embed.FS

// compile builds the generator and the floor into dir.
func compile(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"gen", "floor"} {
		text, err := sources.ReadFile("csrc/" + name + ".c")
		if err != nil {
			return err
		}
		c := exec.CommandContext(ctx, "gcc", "-O2", "-Wall", "-Wextra", "-o", filepath.Join(dir, name), "-x", "c", "-")
		c.Stdin = strings.NewReader(string(text))
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("gcc %s.c: %w\n%s", name, err, out)
		}
	}
	return nil
}

// tool finds a program: ours and what the Makefile built first, then the system's. The
// result is empty where there is none.
func tool(name string) string {
	for _, dir := range []string{binDir, "bin", "/usr/sbin", "/usr/bin"} {
		p, err := filepath.Abs(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return ""
}

var versionCommands = []struct {
	name, pattern string
	args          []string
}{
	{"resolverd", `version:?\s+(\S+)|resolverd (\S+)`, []string{"resolverd", "version"}},
	{"coredns", `CoreDNS-(\S+)`, []string{"coredns", "-version"}},
	{"unbound", `Version (\S+)`, []string{"unbound", "-V"}},
	{"dnsdist", `dnsdist (\S+)`, []string{"dnsdist", "--version"}},
	{"named", `BIND (\S+)`, []string{"named", "-v"}},
	{"knot-resolver", `version (\S+)`, []string{"kresd", "-V"}},
	{"pdns-recursor", `Recursor (\S+)`, []string{"pdns_recursor", "--version"}},
	{"dnsmasq", `version (\S+)`, []string{"dnsmasq", "--version"}},
	{"consul", `Consul v?(\S+)`, []string{"consul", "version"}},
	{"nsd", `version (\S+)`, []string{"nsd", "-v"}},
	{"dnsperf", `Version (\S+)`, []string{"dnsperf", "-h"}},
	{"gcc", `(?m)\) (\d\S+)$`, []string{"gcc", "--version"}},
}

// versions asks every program that is here.
func versions(ctx context.Context) []string {
	var l []string
	for _, v := range versionCommands {
		path := tool(v.args[0])
		if path == "" {
			continue
		}
		out, _ := exec.CommandContext(ctx, path, v.args[1:]...).CombinedOutput()
		l = append(l, v.name+" "+findVersion(string(out), v.pattern))
	}
	return l
}

func findVersion(text, pattern string) string {
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	for i := 1; i < len(m); i++ {
		if m[i] != "" {
			return strings.TrimRight(m[i], ",;")
		}
	}
	return "of unknown version"
}

// machine describes where the figures were taken.
func machine() string {
	model := "unknown CPU"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if m := regexp.MustCompile(`model name\s*:\s*(.+)`).FindSubmatch(b); m != nil {
			model = string(m[1])
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	load, _ := os.ReadFile("/proc/loadavg")
	one, _, _ := strings.Cut(string(load), " ")
	return fmt.Sprintf("%s, %d cores, Linux %s, %s; load average at the start %s", model, runtime.NumCPU(),
		strings.TrimSpace(string(kernel)), runtime.Version(), one)
}
