package check

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/resolverd/resolverd/registry"
)

func script(args ...string) registry.CheckDefinition {
	return registry.CheckDefinition{Kind: registry.CheckScript, Args: args}
}

func sh(line string) registry.CheckDefinition { return script("/bin/sh", "-c", line) }

func TestScriptExitCodes(t *testing.T) {
	strict := sh("echo hm; exit 1")
	strict.WarningIsCritical = true
	for _, tc := range []struct {
		name string
		d    registry.CheckDefinition
		want registry.Status
		part string
	}{
		{"0", sh("echo fine"), registry.Passing, "fine"},
		{"1", sh("echo hm; exit 1"), registry.Warning, "hm"},
		{"1 as critical", strict, registry.Critical, "hm"},
		{"2", sh("echo no >&2; exit 2"), registry.Critical, "exit code 2: no"},
		{"by signal", sh("kill -9 $$"), registry.Critical, "signal"},
		{"by name", script("true"), registry.Passing, ""},
		{"no shell", script("echo", "$HOME; exit 2"), registry.Passing, "$HOME; exit 2"},
		{"missing", script("/nonexistent/x"), registry.Critical, "no such file"},
		{"stdin is empty", sh("cat; echo end"), registry.Passing, "end"},
	} {
		t.Run(tc.name, func(t *testing.T) { expect(t, find(t, tc.d, 5*time.Second), tc.want, tc.part) })
	}
	for _, name := range []string{"./x", "no-such-command-here"} {
		d := script(name)
		if _, err := newProber("n1", &registry.Check{Definition: &d}); err == nil {
			t.Errorf("command %q was taken", name)
		}
	}
}

func TestScriptEnvironment(t *testing.T) {
	t.Setenv("SECRET", "x")
	r := find(t, sh("pwd; env"), 5*time.Second)
	if strings.Contains(r.output, "SECRET") {
		t.Errorf("the agent's environment shows: %s", r.output)
	}
	for _, want := range []string{"/\n", "PATH=" + scriptPath, "RESOLVERD_NODE=n1", "RESOLVERD_CHECK=c", "RESOLVERD_INSTANCE=i"} {
		if !strings.Contains(r.output, want) {
			t.Errorf("no %q in %s", want, r.output)
		}
	}
}

func TestScriptOutputIsCapped(t *testing.T) {
	r := find(t, sh("head -c 10000000 /dev/zero | tr '\\0' x; exit 1"), 20*time.Second)
	if r.status != registry.Warning || len(r.output) != MaxOutput {
		t.Errorf("%s with %d octets, want a warning with %d", r.status, len(r.output), MaxOutput)
	}
}

// TestScriptLeavesNoOrphan runs scripts that start others, and looks for those after.
func TestScriptLeavesNoOrphan(t *testing.T) {
	for _, tc := range []struct {
		name, then string
		timeout    time.Duration
		want       registry.Status
		part       string
	}{
		{"timed out", "echo begun; wait", 500 * time.Millisecond, registry.Critical, "begun"},
		{"timed out, deaf to TERM", "trap '' TERM INT HUP; wait", 500 * time.Millisecond, registry.Critical, "timed out"},
		{"ended before its child", "exit 0", 10 * time.Second, registry.Passing, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pids := filepath.Join(t.TempDir(), "pids")
			// A child, and a child of a child, that hold the output open.
			line := "sleep 1000 & echo $! >" + pids + "; sh -c 'sleep 1000 & echo $! >>" + pids + "; wait' & " +
				"while [ $(wc -l <" + pids + ") -lt 2 ]; do :; done; " + tc.then
			expect(t, find(t, sh(line), tc.timeout), tc.want, tc.part)
			b, err := os.ReadFile(pids)
			if err != nil {
				t.Fatal(err)
			}
			list := strings.Fields(string(b))
			if len(list) != 2 {
				t.Fatalf("children %q, want two", list)
			}
			for _, p := range list {
				pid, err := strconv.Atoi(p)
				if err != nil {
					t.Fatal(err)
				}
				awaitEnd(t, pid)
			}
		})
	}
}

// awaitEnd waits until a process has ended: it was killed, but the system takes a moment.
func awaitEnd(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for time.Now().Before(deadline) {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			return // gone
		}
		if _, after, ok := strings.Cut(string(b), ") "); ok && strings.HasPrefix(after, "Z") {
			return // dead, and not yet reaped by whoever inherited it
		}
	}
	t.Errorf("process %d lives on", pid)
	_ = syscall.Kill(pid, syscall.SIGKILL)
}

// TestScriptThatLeavesItsGroup starts a process in a session of its own: it is not ours
// to kill, but it must not hold the check up either.
func TestScriptThatLeavesItsGroup(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pid")
	d := sh("setsid sh -c 'echo $$ >" + pids + "; exec sleep 1000' & while [ ! -s " + pids + " ]; do :; done; echo done")
	start := time.Now()
	r := find(t, d, 20*time.Second)
	expect(t, r, registry.Passing, "done")
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("held up for %v", took)
	}
	b, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

func TestScriptIsKilledWithItsContext(t *testing.T) {
	d := sh("sleep 1000")
	p, err := newProber("n1", &registry.Check{Definition: &d})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	done := make(chan result)
	go func() { done <- p.probe(ctx) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("still there")
	}
}

func TestEndsInGrep(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, tc := range []struct {
		name string
		args []string
		want bool
	}{
		{"grep", []string{"grep", "-q", "x", "/f"}, true},
		{"by path", []string{"/usr/bin/egrep", "x", "/f"}, true},
		{"pipe", []string{"sh", "-c", "ps ax | grep '[n]ginx; x'"}, true},
		{"options", []string{"/bin/bash", "-e", "-c", "ss -ltn 2>&1 | grep :80 >/dev/null"}, true},
		{"and", []string{"sh", "-c", "cd /srv && LANG=C grep -q x f;"}, true},
		{"two lines", []string{"sh", "-c", "true\ngrep x f\n"}, true},
		{"negated", []string{"sh", "-c", "! grep x f"}, true},
		{"handled", []string{"sh", "-c", "ps ax | grep x || exit 2"}, false},
		{"not last", []string{"sh", "-c", "grep x f | wc -l"}, false},
		{"in quotes", []string{"sh", "-c", "echo 'a | grep x'"}, false},
		{"an argument", []string{"echo", "grep"}, false},
		{"nothing", nil, false},
		{"a shell alone", []string{"sh"}, false},
		{"a script", []string{file("a", "#!/bin/sh\n# checks\nps ax | grep -q nginx\n\nexit $?\n")}, true},
		{"a script by its shell", []string{"sh", file("b", "ps ax | grep -q nginx\n")}, true},
		{"a script that ends otherwise", []string{file("c", "#!/usr/bin/env bash\nps | grep x || exit 2\n")}, false},
		{"no shell script", []string{file("d", "#!/usr/bin/python3\ngrep\n")}, false},
		{"a binary", []string{file("e", "\x7fELF\x00\x00")}, false},
		{"no file", []string{"/nonexistent/x"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := endsInGrep(tc.args); got != tc.want {
				t.Errorf("%q: %t, want %t", tc.args, got, tc.want)
			}
		})
	}
}

func FuzzEndsInGrep(f *testing.F) {
	for _, s := range []string{"a | grep x", "grep 'x", "\\", "a >&", "x=1", "#"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if endsInGrep([]string{"sh", "-c", line}) && !strings.Contains(line, "grep") && !strings.Contains(line, "rg") {
			t.Errorf("%q ends in grep", line)
		}
	})
}
