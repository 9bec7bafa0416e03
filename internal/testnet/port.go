// Package testnet gives tests loopback ports that stay free until they are used.
//
// A port that was bound to 0 and closed again comes from the range of which the kernel
// takes the ports of outgoing connections, so another test's client may have it a moment
// later. The ports of this package lie below that range, and each process begins at a
// place of its own.
package testnet

import (
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
)

const (
	first  = 10_000
	places = 440 // processes that begin apart
	each   = 50
	spread = places * each // up to 31,999; the kernel's own begin at 32,768
)

var next atomic.Uint32

// Port returns a port on which nobody listens on any loopback address, neither over UDP
// nor over TCP. It is not given out again by this process.
func Port(t testing.TB) string {
	t.Helper()
	start := os.Getpid() % places * each
	for range spread {
		n := first + (start+int(next.Add(1)))%spread
		port := strconv.Itoa(n)
		if free(port) {
			return port
		}
	}
	t.Fatal("testnet: no free port on loopback")
	return ""
}

// Addr returns 127.0.0.1 with a Port.
func Addr(t testing.TB) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", Port(t))
}

func free(port string) bool {
	// All addresses at once: a listener on any of them is in the way.
	u, err := net.ListenPacket("udp", ":"+port)
	if err != nil {
		return false
	}
	defer u.Close()
	l, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return false
	}
	return l.Close() == nil
}
