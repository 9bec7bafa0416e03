package settings

import (
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Key is one setting as users write it.
type Key struct {
	// Name is its dotted path in resolverd.yaml.
	Name string
	// Flag is the flag that sets it, without dashes; "" where there is none.
	Flag string
	// Doc is one line for people.
	Doc string
	// Form names what a value looks like.
	Form string

	set func(s *Settings, v string) error
}

// Env returns the variable that sets the key.
func (k Key) Env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(k.Name, ".", "_"))
}

const envPrefix = "RESOLVERD_"

// metaKey is the one setting that is a map; only the file can hold it.
const metaKey = "node.meta"

// Keys lists every setting but node.meta, in the order of the documentation.
func Keys() []Key { return keys }

var keys = []Key{
	{
		"node.name", "name", "name of this node in the registry (default: the host name)", "text",
		func(s *Settings, v string) error { s.Node.Name = v; return nil },
	},
	{
		"node.address", "address", "default address of this node's services (default: that of the interface with the default route)", "IP address",
		func(s *Settings, v string) (err error) { s.Node.Address, err = parseAddr(v); return err },
	},
	{
		"node.zone", "zone", "where this host stands, as a rack or room", "text",
		func(s *Settings, v string) error { s.Node.Zone = v; return nil },
	},
	{
		"datacenter", "datacenter", "name of this data centre (default dc1)", "label",
		func(s *Settings, v string) error { s.Datacenter = v; return nil },
	},
	{
		"data_dir", "data-dir", "directory for what must survive a restart (default /var/lib/resolverd, or ~/.local/state/resolverd)", "absolute path",
		func(s *Settings, v string) (err error) { s.DataDir, err = parsePath(v); return err },
	},
	{
		"corefile", "corefile", "Corefile (default /etc/resolverd/Corefile if it is there, else the embedded one)", "absolute path",
		func(s *Settings, v string) (err error) { s.Corefile, err = parsePath(v); return err },
	},
	{
		"services_dir", "services-dir", "directory of service definitions (default /etc/resolverd/services.d if it is there)", "absolute path",
		func(s *Settings, v string) (err error) { s.ServicesDir, err = parsePath(v); return err },
	},
	{
		"dns_port", "dns-port", "port of server blocks that name none (default 53)", "port",
		func(s *Settings, v string) (err error) { s.DNSPort, err = parsePort(v); return err },
	},
	{
		"api.address", "api", "listen address of the HTTP API (default 127.0.0.1:8553)", "address:port",
		func(s *Settings, v string) (err error) { s.API.Address, err = parseAddrPort(v); return err },
	},
	{
		"api.token_file", "api-token-file", "file with the token that the API asks for", "absolute path",
		func(s *Settings, v string) (err error) { s.API.TokenFile, err = parsePath(v); return err },
	},
	{
		"checks.interval", "", "time between two runs of a check", "duration",
		func(s *Settings, v string) (err error) { s.Checks.Interval, err = parseDuration(v); return err },
	},
	{
		"checks.timeout", "", "how long one run of a check may take", "duration",
		func(s *Settings, v string) (err error) { s.Checks.Timeout, err = parseDuration(v); return err },
	},
	{
		"checks.api_scripts", "", "take script checks from the API; needs a token", "true or false",
		func(s *Settings, v string) (err error) { s.Checks.APIScripts, err = parseBool(v); return err },
	},
	{
		"log.level", "log-level", "debug, info, warn or error (default info)", "level",
		func(s *Settings, v string) (err error) { s.Log.Level, err = parseLevel(v); return err },
	},
	{
		"log.format", "log-format", "text or json (default text)", "format",
		func(s *Settings, v string) error { s.Log.Format = v; return nil },
	},
	{
		"answerer.user", "", "user that the answerer runs as when root starts it", "user name",
		func(s *Settings, v string) error { s.Answerer.User = v; return nil },
	},
}

func parseAddr(v string) (netip.Addr, error) {
	a, err := netip.ParseAddr(v)
	if err != nil {
		return a, fmt.Errorf("%q is no IP address", v)
	}
	return a.Unmap(), nil
}

func parseAddrPort(v string) (netip.AddrPort, error) {
	host, port, ok := cutPort(v)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%q is not of the form address:port, as in 127.0.0.1:8553", v)
	}
	if host == "" {
		return netip.AddrPort{}, fmt.Errorf("%q names no address; for all of them write 0.0.0.0:%s", v, port)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	a, err := parseAddr(host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	p, err := parsePort(port)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(a, p), nil
}

func cutPort(v string) (host, port string, ok bool) {
	i := strings.LastIndexByte(v, ':')
	if i < 0 {
		return "", "", false
	}
	host, port = v[:i], v[i+1:]
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		return host[1 : len(host)-1], port, true
	}
	return host, port, !strings.Contains(host, ":")
}

func parsePort(v string) (uint16, error) {
	p, err := strconv.ParseUint(v, 10, 16)
	if err != nil || p == 0 {
		return 0, fmt.Errorf("%q is no port; ports are 1 to 65535", v)
	}
	return uint16(p), nil
}

func parsePath(v string) (string, error) {
	if !filepath.IsAbs(v) {
		return "", fmt.Errorf("%q is not an absolute path", v)
	}
	return filepath.Clean(v), nil
}

func parseDuration(v string) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if err != nil {
		return 0, fmt.Errorf("%q is no duration; write a number and a unit, as 500ms, 5s or 1m", v)
	}
	return d, nil
}

func parseBool(v string) (bool, error) {
	switch strings.ToLower(v) {
	case "true", "yes", "on", "1":
		return true, nil
	case "false", "no", "off", "0":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", v)
}

func parseLevel(v string) (slog.Level, error) {
	switch strings.ToLower(v) {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("%q is no level; levels are debug, info, warn and error", v)
}
