package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// bench is one run of the command.
type bench struct {
	options
	ctx     context.Context // ends the run; a command's context is the program's
	dir     string
	running []*process
	source  *process            // the upstream
	started map[string][]string // by row: the servers' command lines
}

// process is one started program.
type process struct {
	cmd    *exec.Cmd
	output string // file with what it wrote; empty where that was thrown away
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// spawn starts a program and waits until it answers DNS at addr. What it writes goes to a
// file of dir, so that nobody here spends time on it, or nowhere.
func (b *bench) spawn(dir, addr string, discard bool, args ...string) (*process, error) {
	p := &process{output: filepath.Join(dir, "output")}
	if discard {
		p.output = ""
	}
	name := p.output
	if discard {
		name = os.DevNull
	}
	out, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	b.running = append(b.running, p)
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	m := new(dns.Msg)
	m.SetQuestion("n1.bench.example.", dns.TypeA)
	for {
		if _, err := dns.ExchangeContext(ctx, m, addr); err == nil {
			return p, nil
		}
		select {
		case <-ctx.Done():
			text, _ := os.ReadFile(p.output)
			return nil, fmt.Errorf("%s does not answer at %s:\n%s", filepath.Base(args[0]), addr, text)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// stop ends the processes from the first one given on.
func (b *bench) stop(first int) {
	for _, p := range b.running[first:] {
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, p := range b.running[first:] {
		t := time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Kill() })
		_ = p.cmd.Wait()
		t.Stop()
	}
	b.running = b.running[:first]
}

func (b *bench) stopAll() { b.stop(0) }

// usage is what processes have used so far.
type usage struct {
	user, system time.Duration // by the clock's ticks of 10 ms
	exact        time.Duration // both by the scheduler's own clock; 0 where it keeps none
	rss          int64         // octets now
}

// total is of user and system time. Ticks are a tenth of what 5,000 queries cost.
func (u usage) total() time.Duration {
	if u.exact > 0 {
		return u.exact
	}
	return u.user + u.system
}

func (u usage) add(o usage) usage {
	return usage{u.user + o.user, u.system + o.system, u.exact + o.exact, u.rss + o.rss}
}

// treeUsage sums a process and all of its descendants. With part it counts only those
// whose second argument that is, as in "resolverd answer".
func treeUsage(pid int, part string) (usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, err
	}
	u, err := parseStat(stat)
	if err != nil {
		return usage{}, err
	}
	u.exact = exactUsage(pid)
	if part != "" {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if args := strings.Split(string(line), "\x00"); len(args) < 2 || args[1] != part {
			u = usage{}
		}
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return usage{}, err
	}
	for _, file := range tasks {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread ended
		}
		for _, c := range strings.Fields(string(text)) {
			child, err := strconv.Atoi(c)
			if err != nil {
				return usage{}, err
			}
			if of, err := treeUsage(child, part); err == nil { // else it ended
				u = u.add(of)
			}
		}
	}
	return u, nil
}

// exactUsage sums the threads' time on a CPU (/proc/PID/task/TID/schedstat, nanoseconds
// first). A thread that ended takes its own along: the servers keep theirs.
func exactUsage(pid int) (sum time.Duration) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid)) // the pattern is good
	for _, file := range files {
		text, err := os.ReadFile(file)
		if f := strings.Fields(string(text)); err == nil && len(f) > 0 {
			n, _ := strconv.ParseInt(f[0], 10, 64) // no number is 0
			sum += time.Duration(n)
		}
	}
	return sum
}

// parseStat reads user and system time (USER_HZ is 100) and resident pages of
// /proc/PID/stat. The program's name may hold anything, so fields count from its end.
func parseStat(stat []byte) (usage, error) {
	end := bytes.LastIndexByte(stat, ')')
	f := strings.Fields(string(stat[end+1:]))
	if end < 0 || len(f) < 22 {
		return usage{}, errors.New("bench: a process's stat is cut short")
	}
	var n [3]int64
	for i, at := range []int{11, 12, 21} {
		v, err := strconv.ParseInt(f[at], 10, 64)
		if err != nil {
			return usage{}, fmt.Errorf("bench: stat: %w", err)
		}
		n[i] = v
	}
	const tick = time.Second / 100
	return usage{user: time.Duration(n[0]) * tick, system: time.Duration(n[1]) * tick, rss: n[2] * int64(os.Getpagesize())}, nil
}
