package corefile

import (
	"testing"

	"go.uber.org/goleak"
)

// Stock plugins leave goroutines behind: hosts and ready those of a Corefile whose
// setups ran and that was then not started.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/coredns/coredns/plugin/hosts.periodicHostsUpdate.func1"),
		goleak.IgnoreAnyFunction("github.com/coredns/coredns/plugin/ready.(*ready).onStartup.func2"),
	)
}
