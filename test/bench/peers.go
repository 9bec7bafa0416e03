package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	names    = 10_000 // names that the upstream knows one by one
	services = 1_000  // services in the registry, three instances each
	source   = "127.0.0.1:5399"
)

// place is what a server is given.
type place struct {
	dir     string // its own, made
	port    int    // DNS, on 127.0.0.1
	api     string // host:port of its HTTP API
	metrics string // host:port for prometheus
	cache   int    // how many answers must fit; 0: it is not to cache
}

// starter writes what a server needs and returns the command line; the first argument is
// empty where the program is not installed.
type starter func(p place) ([]string, error)

// config writes a file in the server's directory.
func (p place) config(name, format string, args ...any) (string, error) {
	file := filepath.Join(p.dir, name)
	return file, os.WriteFile(file, []byte(fmt.Sprintf(format, args...)), 0o600)
}

func floor(p place) ([]string, error) {
	return []string{tool("floor"), "127.0.0.1", fmt.Sprint(p.port)}, nil
}

// resolverd runs the Corefile that is shipped in its essentials: prometheus, errors, a
// horizon, cache, registry, forward; more directives may be added.
func resolverd(more ...string) starter {
	return func(p place) ([]string, error) {
		cache := "cache 86400"
		if p.cache > names*10 {
			cache = "cache 86400 {\n        bytes 512MiB\n    }"
		}
		file, err := p.config("Corefile", "%s", corefile(p, cache, more...))
		return []string{
			tool("resolverd"), "run", "--corefile", file, "--data-dir", filepath.Join(p.dir, "data"),
			"--name", "n1", "--api", p.api, "--log-level", "warn",
		}, err
	}
}

func corefile(p place, cache string, more ...string) string {
	return fmt.Sprintf(`.:%d {
    bind 127.0.0.1
    prometheus %s
    errors
    horizon here 127.0.0.0/8
    %s
    registry internal.
    forward . %s
%s}
`, p.port, p.metrics, cache, source, strings.Join(append(more, ""), "\n"))
}

// coredns is stock CoreDNS with no more than it needs.
func coredns(p place) ([]string, error) {
	cache := "cache 86400"
	switch {
	case p.cache == 0:
		cache = ""
	case p.cache > names:
		// The capacity is spread over 256 shards that do not fill evenly.
		cache = fmt.Sprintf("cache 86400 {\n        success %d\n    }", p.cache*5/4)
	}
	file, err := p.config("Corefile", ".:%d {\n    bind 127.0.0.1\n    errors\n    %s\n    forward . %s\n}\n", p.port, cache, source)
	return []string{tool("coredns"), "-conf", file}, err
}

func dnsmasq(p place) ([]string, error) {
	cache := 0
	if p.cache > 0 {
		cache = p.cache + 1000
	}
	return []string{
		tool("dnsmasq"), "-k", "-u", "root", "-p", fmt.Sprint(p.port), "-a", "127.0.0.1", "-z", "--no-resolv", "--no-hosts",
		"--server=" + strings.Replace(source, ":", "#", 1), fmt.Sprintf("--cache-size=%d", cache),
		"--dns-forward-max=10000", "--conf-file=/dev/null",
	}, nil
}

func unbound(p place) ([]string, error) {
	size := "64m"
	if p.cache > names*10 {
		size = "512m"
	}
	file, err := p.config("unbound.conf", `server:
  interface: 127.0.0.1
  port: %d
  username: ""
  chroot: ""
  directory: "%s"
  pidfile: ""
  use-syslog: no
  num-threads: 1
  msg-cache-size: %s
  rrset-cache-size: %s
  do-not-query-localhost: no
  module-config: "iterator"
forward-zone:
  name: "."
  forward-addr: %s
`, p.port, p.dir, size, size, strings.Replace(source, ":", "@", 1))
	return []string{tool("unbound"), "-d", "-c", file}, err
}

func dnsdist(p place) ([]string, error) {
	cache := ""
	if p.cache > 0 {
		cache = fmt.Sprintf("getPool(''):setCache(newPacketCache(%d, {maxTTL=86400}))\n", p.cache*5/4)
	}
	file, err := p.config("dnsdist.conf", `setLocal('127.0.0.1:%d')
setACL({'127.0.0.0/8'})
setMaxUDPOutstanding(65535)
newServer({address='%s', checkName='n1.bench.example.'})
%s`, p.port, source, cache)
	return []string{tool("dnsdist"), "--supervised", "--disable-syslog", "-C", file}, err
}

func named(p place) ([]string, error) {
	host, port, _ := strings.Cut(source, ":")
	file, err := p.config("named.conf", `options {
  directory "%s";
  listen-on port %d { 127.0.0.1; };
  listen-on-v6 { none; };
  pid-file none;
  session-keyfile none;
  recursion yes;
  dnssec-validation no;
  empty-zones-enable no;
  forward only;
  forwarders { %s port %s; };
};
controls { };
`, p.dir, p.port, host, port)
	return []string{tool("named"), "-f", "-n", "1", "-c", file}, err
}

func kresd(p place) ([]string, error) {
	file, err := p.config("kresd.conf", `net.listen('127.0.0.1', %d, { kind = 'dns' })
trust_anchors.remove('.')
cache.open(200 * MB, 'lmdb://%s')
policy.add(policy.all(policy.FORWARD({'%s'})))
`, p.port, p.dir, strings.Replace(source, ":", "@", 1))
	return []string{tool("kresd"), "-n", "-q", "-c", file, p.dir}, err
}

func recursor(p place) ([]string, error) {
	_, err := p.config("recursor.conf", `local-address=127.0.0.1
local-port=%d
forward-zones-recurse=.=%s
dont-query=
dnssec=off
threads=1
socket-dir=%s
security-poll-suffix=
disable-syslog=yes
write-pid=no
quiet=yes
`, p.port, source, p.dir)
	return []string{tool("pdns_recursor"), "--config-dir=" + p.dir, "--daemon=no"}, err
}

func consul(p place) ([]string, error) {
	_, port, _ := strings.Cut(p.api, ":")
	file, err := p.config("consul.json", `{"ports":{"dns":%d,"http":%s},"disable_update_check":true}`, p.port, port)
	return []string{
		tool("consul"), "agent", "-dev", "-node", "n1", "-bind", "127.0.0.1", "-client", "127.0.0.1",
		"-config-file", file, "-log-level", "err",
	}, err
}

// upstream starts nsd with the zone that everybody forwards to: names one by one, and
// wildcards for those that are asked once and those of the row memory.
func (b *bench) upstream() error {
	var z bytes.Buffer
	z.WriteString("$ORIGIN bench.example.\n$TTL 86400\n@ SOA ns h 1 3600 600 86400 30\n@ NS ns\nns A 192.0.2.1\n")
	z.WriteString("*.any A 192.0.2.2\n*.mem A 192.0.2.3\n")
	for i := range names {
		fmt.Fprintf(&z, "n%d A 10.%d.%d.%d\n", i, i>>16, i>>8&255, i&255)
	}
	p := place{dir: b.dir}
	zone, err := p.config("zone", "%s", z.String())
	if err != nil {
		return err
	}
	conf, err := p.config("nsd.conf", `server:
  ip-address: %[3]s
  username: ""
  chroot: ""
  zonesdir: "%[1]s"
  database: ""
  pidfile: "%[1]s/nsd.pid"
  xfrdfile: "%[1]s/xfrd.state"
  zonelistfile: "%[1]s/zone.list"
  minimal-responses: yes
  rrl-ratelimit: 0
  rrl-whitelist-ratelimit: 0
remote-control:
  control-enable: no
zone:
  name: bench.example.
  zonefile: %[2]s
`, b.dir, zone, strings.Replace(source, ":", "@", 1))
	if err != nil {
		return err
	}
	b.source, err = b.spawn(b.dir, source, false, tool("nsd"), "-d", "-c", conf)
	return err
}
