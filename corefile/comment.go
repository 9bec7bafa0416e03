package corefile

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// hashPort is an address and a port as dnsmasq writes them, before any comment.
var hashPort = regexp.MustCompile(`^[^#"]*?([0-9A-Fa-f.:]+)#([0-9]{1,5})(?:\s|$)`)

// lostPorts warns of ports that CoreDNS does not see: # begins a comment wherever it
// stands, and dnsmasq's 127.0.0.1#8600 is 127.0.0.1 on port 53.
func (l *Loaded) lostPorts(text []byte) {
	for i, line := range strings.Split(string(text), "\n") {
		m := hashPort.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		a, err := netip.ParseAddr(m[1])
		port, _ := strconv.ParseUint(m[2], 10, 16)
		if err != nil || port == 0 {
			continue
		}
		l.Warnings = append(l.Warnings, fmt.Sprintf("%s:%d: the port of %s#%d is not read, because # begins a comment: write %s",
			l.Path, i+1, a, port, netip.AddrPortFrom(a, uint16(port))))
	}
}

// unsetVariable returns a {$NAME} of a line of the main file that is read as nothing, or "".
func (l *Loaded) unsetVariable(f *Fault) string {
	if f.File != l.Path {
		return ""
	}
	return l.unset[f.Line]
}

// noteUnset finds the variables of text that caddy will read as nothing.
func (l *Loaded) noteUnset(text []byte, getenv func(string) string) {
	l.unset = map[int]string{}
	for i, line := range strings.Split(string(text), "\n") {
		line, _, _ = strings.Cut(line, "#")
		for _, m := range variable.FindAllStringSubmatch(line, -1) {
			if getenv(m[1]) == "" {
				l.unset[i+1] = m[1]
			}
		}
	}
}
