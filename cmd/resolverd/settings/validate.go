package settings

import (
	"fmt"
	"os/user"
	"strings"
	"time"

	"github.com/resolverd/resolverd/registry"
)

// maxSocket is the longest path of a Unix socket, in octets: unix(7).
const maxSocket = 107

// Validate returns every fault of s, in the order of the documentation; empty means
// that s can be used. Where is left empty.
func (s Settings) Validate() Faults {
	var f Faults
	add := func(key, text, hint string) { f = append(f, Fault{Key: key, Text: text, Hint: hint}) }

	switch n := s.Node.Name; {
	case n == "":
		add("node.name", "this host has no name", "set node.name or --name")
	case len(n) > 253:
		add("node.name", "more than 253 octets", "")
	case strings.ContainsFunc(n, func(r rune) bool { return r <= ' ' || r == '/' || r == 0x7f }):
		add("node.name", fmt.Sprintf("%q holds a space, a slash or a control character", n), "")
	}
	if a := s.Node.Address; a.IsValid() {
		switch {
		case a.IsUnspecified() || a.IsMulticast():
			add("node.address", fmt.Sprintf("%s is nobody's address", a), "write the address by which other hosts reach this one")
		case a.Zone() != "":
			add("node.address", fmt.Sprintf("%s has a zone, which means nothing on another host", a), "")
		}
	}
	if len(s.Node.Zone) > 63 {
		add("node.zone", "more than 63 octets", "")
	}
	if !registry.IsLabel(s.Datacenter) || s.Datacenter != registry.Fold(s.Datacenter) {
		add("datacenter", fmt.Sprintf("%q is no label in lower case", s.Datacenter), "letters, digits and hyphens, as in dc1")
	}
	switch {
	case s.DataDir == "":
		add("data_dir", "no home directory is known to put one into", "set data_dir or --data-dir")
	case len(s.ControlSocket()) > maxSocket:
		add("data_dir", fmt.Sprintf("%d octets are too many for the sockets in it", len(s.DataDir)),
			fmt.Sprintf("at most %d", maxSocket-len(s.ControlSocket())+len(s.DataDir)))
	}
	if s.Corefile != "" && !isFile(s.Corefile) {
		add("corefile", s.Corefile+" is not there or no file", "")
	}
	if s.ServicesDir != "" && !isDir(s.ServicesDir) {
		add("services_dir", s.ServicesDir+" is not there or no directory", "mkdir "+s.ServicesDir)
	}
	if a := s.API.Address; !a.IsValid() || a.Port() == 0 {
		add("api.address", "no address", "127.0.0.1:8553")
	} else if !a.Addr().IsLoopback() && s.API.TokenFile == "" {
		add("api.address", fmt.Sprintf("%s is not loopback, and an API off loopback needs a token", a),
			"set api.token_file or --api-token-file")
	}
	bounds := func(key string, d, low, high time.Duration) {
		if d < low || d > high {
			add(key, fmt.Sprintf("%s is out of bounds", d), fmt.Sprintf("%s to %s", low, high))
		}
	}
	bounds("checks.interval", s.Checks.Interval, 100*time.Millisecond, 24*time.Hour)
	bounds("checks.timeout", s.Checks.Timeout, 10*time.Millisecond, time.Hour)
	if s.Checks.APIScripts && s.API.TokenFile == "" {
		add("checks.api_scripts", "script checks over the API need a token", "set api.token_file or --api-token-file")
	}
	if s.Log.Format != "text" && s.Log.Format != "json" {
		add("log.format", fmt.Sprintf("%q is no format", s.Log.Format), "text or json")
	}
	if u := s.Answerer.User; u != "" {
		if _, err := user.Lookup(u); err != nil {
			add("answerer.user", fmt.Sprintf("there is no user %q", u), "adduser --system --group "+u)
		}
	}
	return f
}
