package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/resolverd/resolverd/registry"
	"golang.org/x/sys/unix"
)

// scriptPath is where a command without a slash is looked for, and what the script has
// as PATH, whatever the agent was started with.
const scriptPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// drain is how long the rest of a script's output is read when the script has ended.
const drain = 100 * time.Millisecond

// scriptProbe runs a command. Exit code 0 is passing, 1 warning (or critical, where the
// definition says so), all else critical. The command stands in a process group of its
// own, which is killed when the command has ended or its time is over, so that nothing
// of a check outlives it. No shell takes part but one that Args names.
type scriptProbe struct {
	args              []string
	env               []string
	warningIsCritical bool
}

func newScript(node string, c *registry.Check) (*scriptProbe, error) {
	d := c.Definition
	if len(d.Args) == 0 {
		return nil, errors.New("check: a script check without a command")
	}
	path, err := findCommand(d.Args[0])
	if err != nil {
		return nil, fmt.Errorf("check: script: %w", err)
	}
	return &scriptProbe{
		args: append([]string{path}, d.Args[1:]...),
		env: []string{
			"PATH=" + scriptPath, "HOME=/", "LANG=C.UTF-8",
			"RESOLVERD_NODE=" + node, "RESOLVERD_CHECK=" + c.ID, "RESOLVERD_INSTANCE=" + c.InstanceID,
		},
		warningIsCritical: d.WarningIsCritical,
	}, nil
}

// findCommand returns the path of a command: as it is where it is absolute, from
// scriptPath where it has no slash. A relative path would depend on where the agent
// was started.
func findCommand(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	if strings.ContainsRune(name, '/') {
		return "", fmt.Errorf("command %q is a relative path: write it from the root", name)
	}
	for dir := range strings.SplitSeq(scriptPath, ":") {
		p := filepath.Join(dir, name)
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", fmt.Errorf("command %q is not in %s", name, scriptPath)
}

func (p *scriptProbe) probe(ctx context.Context) result {
	r, w, err := os.Pipe()
	if err != nil {
		return critical("script: %v", err)
	}
	defer r.Close()
	cmd := &exec.Cmd{
		Path: p.args[0], Args: p.args, Env: p.env, Dir: "/", Stdout: w, Stderr: w,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return critical("script: %v", err)
	}
	said := make(chan []byte, 1)
	go func() { said <- readCapped(r) }()

	code, late := p.wait(ctx, cmd)
	// The group is gone, and what it said is in the pipe; a process that left the group
	// may hold the other end open.
	_ = r.SetReadDeadline(time.Now().Add(drain))
	output := tidy(<-said)
	if late {
		return critical("%s", clip(fmt.Sprintf("timed out and was killed; it said: %s", output)))
	}
	return p.verdict(code, output)
}

// wait waits for the command to end, kills what is left of its group, and reaps it.
// late says that it had to be killed.
func (p *scriptProbe) wait(ctx context.Context, cmd *exec.Cmd) (code int, late bool) {
	pid := cmd.Process.Pid
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// Without reaping it, so that its id, which is the group's too, stays taken
		// until the group has been killed.
		for {
			err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
			if !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		late = true
	}
	_ = unix.Kill(-pid, unix.SIGKILL) // nobody left is no error
	<-ended
	_ = cmd.Wait() // the exit code says all that the error would
	return cmd.ProcessState.ExitCode(), late
}

func (p *scriptProbe) verdict(code int, output string) result {
	switch {
	case code == 0:
		return result{registry.Passing, output}
	case code == 1 && !p.warningIsCritical:
		return result{registry.Warning, output}
	case code == 1:
		return result{registry.Critical, output}
	case code < 0:
		return critical("killed by a signal; it said: %s", output)
	}
	return result{registry.Critical, clip(fmt.Sprintf("exit code %d: %s", code, output))}
}

// readCapped reads to the end and keeps the first MaxOutput octets: who prints more
// shall not block.
func readCapped(r io.Reader) []byte {
	b, _ := io.ReadAll(io.LimitReader(r, MaxOutput))
	_, _ = io.Copy(io.Discard, r)
	return b
}
