package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/resolverd/resolverd/internal/testnet"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"resolverd": main})
}

// TestScripts runs testdata/script/*.txtar with the real program and real processes.
//
// Beside testscript's own commands they have:
//
//	resolve NAME TYPE WANT...   asks the port $DNS until the answer is WANT (an RCODE, or data)
//	signal NAME supervisor|answerer|agent   sends a signal to a process of $RESOLVERD_DATA_DIR
//	rc CODE COMMAND...          runs a command that must end with the exit code
//	envsubst FILE               replaces $WORK in the file
//	interrupt FILE              sends SIGINT to the process whose number the file holds
//	until COMMAND...            runs a command again until it succeeds
//	wait-for FILE TEXT          waits until the file holds the text
//	wait-for-api                waits until the agent takes connections
//	no-processes                fails where a process of $WORK still lives
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(e *testscript.Env) error {
			for _, name := range []string{"DNS", "API", "HEALTH", "READY", "METRICS"} {
				e.Setenv(name, testnet.Port(t))
			}
			for _, name := range []string{"HEALTH", "READY", "METRICS"} {
				e.Setenv("RESOLVERD_"+name, "127.0.0.1:"+e.Getenv(name))
			}
			e.Setenv("RESOLVERD_DATA_DIR", filepath.Join(e.WorkDir, "data"))
			e.Setenv("RESOLVERD_API_ADDRESS", "127.0.0.1:"+e.Getenv("API"))
			e.Setenv("RESOLVERD_DNS_PORT", e.Getenv("DNS"))
			e.Setenv("RESOLVERD_NODE_NAME", "n1")
			e.Setenv("RESOLVERD_NODE_ADDRESS", "127.0.0.1")
			e.Setenv("RESOLVERD_LOG_LEVEL", "warn")
			e.Setenv("XDG_RUNTIME_DIR", e.WorkDir)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"resolve": cmdResolve, "signal": cmdSignal, "rc": cmdRC, "wait-for": cmdWaitFor, "no-processes": cmdNoProcesses, "wait-for-api": cmdWaitForAPI, "until": cmdUntil, "envsubst": cmdEnvsubst, "interrupt": cmdInterrupt,
		},
	})
}

const scriptPatience = 20 * time.Second

func cmdResolve(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: resolve NAME TYPE WANT...")
	}
	q := new(dns.Msg).SetQuestion(dns.Fqdn(args[0]), dns.StringToType[args[1]])
	want := strings.Join(args[2:], " ")
	c := &dns.Client{Timeout: time.Second}
	got := ""
	for deadline := time.Now().Add(scriptPatience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		r, _, err := c.Exchange(q, "127.0.0.1:"+ts.Getenv("DNS"))
		if err != nil {
			got = err.Error()
			continue
		}
		if got = dns.RcodeToString[r.Rcode]; len(r.Answer) > 0 {
			var data []string
			for _, rr := range r.Answer {
				data = append(data, strings.TrimPrefix(rr.String(), rr.Header().String()))
			}
			got = strings.Join(data, " ")
		}
		if got == want {
			return
		}
	}
	ts.Fatalf("resolve %s %s: got %s, want %s", args[0], args[1], got, want)
}

var signals = map[string]syscall.Signal{"KILL": syscall.SIGKILL, "TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP}

func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 || signals[args[0]] == 0 {
		ts.Fatalf("usage: signal NAME supervisor|answerer|agent")
	}
	file, ok := map[string]string{"supervisor": "lock", "answerer": "answerer/lock", "agent": "agent/lock"}[args[1]]
	if !ok {
		ts.Fatalf("no process %q", args[1])
	}
	var holder struct {
		PID int `json:"pid"`
	}
	b, err := os.ReadFile(filepath.Join(ts.Getenv("RESOLVERD_DATA_DIR"), file))
	ts.Check(err)
	ts.Check(json.Unmarshal(b, &holder))
	ts.Check(syscall.Kill(holder.PID, signals[args[0]]))
}

func cmdRC(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	if neg || err != nil {
		ts.Fatalf("usage: rc CODE COMMAND...")
	}
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func cmdWaitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: wait-for FILE TEXT")
	}
	file, text := ts.MkAbs(args[0]), ""
	for deadline := time.Now().Add(scriptPatience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		b, _ := os.ReadFile(file) // it may not be there yet
		if text = string(b); strings.Contains(text, args[1]) {
			return
		}
	}
	ts.Fatalf("%s does not hold %q but\n%s", args[0], args[1], text)
}

func cmdEnvsubst(ts *testscript.TestScript, neg bool, args []string) {
	text := strings.ReplaceAll(ts.ReadFile(args[0]), "$WORK", ts.Getenv("WORK"))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

func cmdInterrupt(ts *testscript.TestScript, neg bool, args []string) {
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile(args[0])))
	ts.Check(err)
	ts.Check(syscall.Kill(pid, syscall.SIGINT))
}

func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: until COMMAND...")
	}
	for deadline := time.Now().Add(scriptPatience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if ts.Exec(args[0], args[1:]...) == nil {
			return
		}
	}
	ts.Fatalf("%s does not succeed", strings.Join(args, " "))
}

func cmdWaitForAPI(ts *testscript.TestScript, neg bool, args []string) {
	for deadline := time.Now().Add(scriptPatience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", "127.0.0.1:"+ts.Getenv("API")); err == nil {
			c.Close()
			return
		}
	}
	ts.Fatalf("nobody answers on port %s", ts.Getenv("API"))
}

// cmdNoProcesses looks for processes that work in $WORK.
func cmdNoProcesses(ts *testscript.TestScript, neg bool, args []string) {
	work := ts.Getenv("WORK")
	var left []string
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		left = nil
		dirs, err := filepath.Glob("/proc/[0-9]*/cwd")
		ts.Check(err)
		for _, d := range dirs {
			if at, err := os.Readlink(d); err == nil && strings.HasPrefix(at, work) {
				b, _ := os.ReadFile(filepath.Join(filepath.Dir(d), "cmdline"))
				left = append(left, strings.ReplaceAll(string(b), "\x00", " "))
			}
		}
		if left == nil {
			return
		}
	}
	ts.Fatalf("still alive: %q", left)
}

// TestMakeRun runs what `make run` runs, with this program and another directory.
func TestMakeRun(t *testing.T) {
	out, err := exec.Command("make", "-n", "-C", "../..", "run").Output()
	if err != nil {
		t.Fatalf("make -n run: %v", err)
	}
	var line string
	for l := range strings.Lines(string(out)) {
		if strings.Contains(l, "bin/resolverd run") {
			line = strings.TrimSpace(l)
		}
	}
	if !strings.Contains(line, ".run") {
		t.Fatalf("make run starts no resolverd in .run:\n%s", out)
	}
	dir, program := publicDir(t)
	line = strings.NewReplacer("bin/resolverd", program, ".run", filepath.Join(dir, "data")).Replace(line)
	// As any user.
	var as *syscall.SysProcAttr
	if os.Geteuid() == 0 {
		as = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	// Twice: the second finds the first one's data, and its port taken.
	for n := range 2 {
		if n == 1 {
			// Where somebody else has the port already, so much the better.
			if c, err := net.ListenPacket("udp", "127.0.0.1:"+strconv.Itoa(demoPort)); err == nil {
				defer c.Close()
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		cmd := exec.CommandContext(ctx, "/bin/sh", "-c", line)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_RUNTIME_DIR="+dir)
		cmd.SysProcAttr = as
		logFile := filepath.Join(dir, fmt.Sprint("log", n))
		f, err := os.Create(logFile)
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdout, cmd.Stderr = f, f
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		text := ""
		for deadline := time.Now().Add(scriptPatience); !strings.Contains(text, "Ctrl-C stops"); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("run %d shows nothing:\n%s", n, text)
			}
			b, _ := os.ReadFile(logFile)
			text = string(b)
		}
		checkDemo(t, text)
		if n == 1 && !strings.Contains(text, "port 5300 is taken, trying the next") {
			t.Errorf("nothing is said of the port that is taken:\n%s", text)
		}
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("run %d ended with %v:\n%s", n, err, text)
		}
		f.Close()
		cancel()
	}
}

// checkDemo asks what the demo's text says one should ask.
func checkDemo(t *testing.T, text string) {
	t.Helper()
	var port, service int
	for l := range strings.Lines(text) {
		fmt.Sscanf(strings.TrimSpace(l), "resolverd answers on 127.0.0.1 port %d.", &port)
		fmt.Sscanf(strings.TrimSpace(l), "the same with priority, weight and port %d", &service)
	}
	if port == 0 || service == 0 {
		t.Fatalf("no ports in\n%s", text)
	}
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port)).String()
	r, err := dns.Exchange(new(dns.Msg).SetQuestion("demo.service.internal.", dns.TypeSRV), at)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Answer) != 1 || len(r.Extra) == 0 {
		t.Fatalf("the SRV answer is\n%s", r)
	}
	srv, ok := r.Answer[0].(*dns.SRV)
	if !ok || int(srv.Port) != service {
		t.Errorf("the SRV record is %s, want port %d", r.Answer[0], service)
	}
	if a, ok := r.Extra[0].(*dns.A); !ok || a.A.String() != "127.0.0.1" {
		t.Errorf("the SRV record's address is %s", r.Extra[0])
	}
	// Whether a Consul runs here or not, somebody answers.
	if _, err = dns.Exchange(new(dns.Msg).SetQuestion("consul.service.consul.", dns.TypeA), at); err != nil {
		t.Fatal(err)
	}
}
