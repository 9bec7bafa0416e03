//go:build !linux

package corefile

import "net"

// boundStall does nothing: there is no such option here.
func boundStall(net.Listener) error { return nil }
