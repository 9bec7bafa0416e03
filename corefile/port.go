package corefile

import (
	"strconv"

	"github.com/coredns/coredns/core/dnsserver"
)

// SetDefaultPort makes port the one on which a server block listens that names none. It
// holds for the process, from the next load on; 53 until it is called.
func SetDefaultPort(port uint16) { dnsserver.Port = strconv.Itoa(int(port)) }
