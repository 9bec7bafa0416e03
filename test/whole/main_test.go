// Package whole runs the program as its users do, beside the real peers: Consul, HAProxy,
// unbound, nsd, dig. The tests have a network namespace to themselves, so ports are the
// real ones and nothing reaches another host.
package whole

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
)

// inside marks the run within the namespace.
const inside = "RDTEST_NAMESPACE"

func TestMain(m *testing.M) {
	if os.Getenv(inside) == "" {
		os.Exit(enterNamespace())
	}
	if err := exec.Command("ip", "link", "set", "lo", "up").Run(); err != nil {
		fmt.Fprintln(os.Stderr, "whole: ip link set lo up:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// enterNamespace runs this test binary again in a network namespace that ends with it.
func enterNamespace() int {
	if os.Getuid() != 0 {
		return unable("network namespaces need root")
	}
	if err := exec.Command("unshare", "--net", "true").Run(); err != nil {
		return unable("unshare --net: " + err.Error())
	}
	args := append([]string{"--net", "--mount", "--", os.Args[0]}, os.Args[1:]...)
	c := exec.Command("unshare", args...)
	c.Stdin, c.Stdout, c.Stderr = nil, os.Stdout, os.Stderr
	c.Env = append(os.Environ(), inside+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := c.Start(); err != nil {
		return unable(err.Error())
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	go func() {
		for s := range stop {
			_ = c.Process.Signal(s)
		}
	}()
	err := c.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	}
	fmt.Fprintln(os.Stderr, "whole:", err)
	return 1
}

// unable ends the run where the machine cannot run it: a failure in CI, elsewhere a skip
// that says so.
func unable(why string) int {
	if os.Getenv("CI") != "" {
		fmt.Fprintln(os.Stderr, "whole: error:", why)
		return 1
	}
	fmt.Fprintln(os.Stderr, "whole: SKIPPED, nothing was tested:", why)
	return 0
}

// repository returns a path inside the checkout.
func repository(t testing.TB, path ...string) string {
	t.Helper()
	p, err := filepath.Abs(filepath.Join(append([]string{"..", ".."}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// peer returns the path of a program that the tests run beside ours.
func peer(t testing.TB, name string) string {
	t.Helper()
	if p, err := exec.LookPath(name); err == nil {
		return p
	}
	for _, dir := range []string{repository(t, ".cache", "bin"), "/usr/sbin", "/sbin"} {
		if p := filepath.Join(dir, name); isFile(p) {
			return p
		}
	}
	t.Fatalf("%s is not on this machine: run `make peers tools`", name)
	return ""
}

func isFile(p string) bool {
	s, err := os.Stat(p)
	return err == nil && s.Mode().IsRegular()
}
