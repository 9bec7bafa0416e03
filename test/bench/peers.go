package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

const (
	names    = 10_000 // names that the upstream knows
	services = 1_000  // services in the registry, three instances each
)

// server is one program under measurement.
type server struct {
	name string
	addr string // host:port
	// start writes what it needs below dir and returns the command line.
	start func(dir, addr string) ([]string, error)
	// fill enters the services where the row is about them.
	fill func() error
}

// row is one question to several servers.
type row struct {
	name, title string
	servers     []server
	// queries writes dnsperf's input.
	queries func(*bytes.Buffer)
	// warm says that a pass over all names comes before the measurement.
	warm bool
}

var rows = []row{
	{
		name: "cached", title: "Cached A answers, 10,000 names", warm: true,
		servers: []server{
			{name: "resolverd", addr: "127.0.0.1:5301", start: resolverd("errors\ncache 3600\nforward . 127.0.0.1:5399")},
			{name: "coredns 1.15", addr: "127.0.0.1:5302", start: coredns("errors\ncache 3600\nforward . 127.0.0.1:5399")},
			{name: "dnsmasq", addr: "127.0.0.1:5303", start: dnsmasq(names + 1000)},
			{name: "unbound", addr: "127.0.0.1:5304", start: unbound},
		},
		queries: func(b *bytes.Buffer) {
			for i := range names {
				fmt.Fprintf(b, "n%d.bench.test A\n", i)
			}
		},
	},
	{
		name: "forwarded", title: "Forwarded A answers, nothing cached",
		servers: []server{
			{name: "resolverd", addr: "127.0.0.1:5311", start: resolverd("errors\nforward . 127.0.0.1:5399")},
			{name: "coredns 1.15", addr: "127.0.0.1:5312", start: coredns("errors\nforward . 127.0.0.1:5399")},
			{name: "dnsmasq", addr: "127.0.0.1:5313", start: dnsmasq(0)},
		},
		queries: func(b *bytes.Buffer) {
			for i := range names {
				fmt.Fprintf(b, "n%d.bench.test A\n", i)
			}
		},
	},
	{
		name: "registry", title: "Registry names, A, 1,000 services of 3 instances", warm: true,
		servers: []server{
			{name: "resolverd", addr: "127.0.0.1:5321", start: resolverd("errors\nregistry internal."), fill: fill("127.0.0.1:5380")},
			{name: "consul 1.13", addr: "127.0.0.1:5322", start: consul, fill: fill("127.0.0.1:5381")},
		},
		queries: nil, // by server: the zone differs
	},
}

func tool(name string) string {
	for _, dir := range []string{".cache/bin", "bin", "/usr/sbin", "/usr/bin"} {
		if p, err := filepath.Abs(filepath.Join(dir, name)); err == nil {
			if _, err := os.Stat(p); err == nil {
				return p
			}
		}
		if p := filepath.Join(dir, name); filepath.IsAbs(p) {
			if _, err := os.Stat(p); err == nil {
				return p
			}
		}
	}
	return name
}

func block(addr, directives string) string {
	_, port, _ := strings.Cut(addr, ":")
	return fmt.Sprintf(".:%s {\n    bind 127.0.0.1\n    %s\n}\n", port, strings.ReplaceAll(directives, "\n", "\n    "))
}

func resolverd(directives string) func(dir, addr string) ([]string, error) {
	return func(dir, addr string) ([]string, error) {
		file := filepath.Join(dir, "Corefile")
		return []string{tool("resolverd"), "run", "--corefile", file, "--data-dir", filepath.Join(dir, "data"), "--name", "n1", "--api", "127.0.0.1:5380"},
			os.WriteFile(file, []byte(block(addr, directives)), 0o600)
	}
}

func coredns(directives string) func(dir, addr string) ([]string, error) {
	return func(dir, addr string) ([]string, error) {
		file := filepath.Join(dir, "Corefile")
		return []string{tool("coredns"), "-conf", file}, os.WriteFile(file, []byte(block(addr, directives)), 0o600)
	}
}

func dnsmasq(cache int) func(dir, addr string) ([]string, error) {
	return func(_, addr string) ([]string, error) {
		_, port, _ := strings.Cut(addr, ":")
		return []string{
			tool("dnsmasq"), "-k", "-u", "root", "-p", port, "-a", "127.0.0.1", "-z", "--no-resolv", "--no-hosts",
			"--server=127.0.0.1#5399", fmt.Sprintf("--cache-size=%d", cache), "--dns-forward-max=10000", "--conf-file=/dev/null",
		}, nil
	}
}

func unbound(dir, addr string) ([]string, error) {
	host, port, _ := strings.Cut(addr, ":")
	file := filepath.Join(dir, "unbound.conf")
	text := fmt.Sprintf(`server:
  interface: %s
  port: %s
  username: ""
  chroot: ""
  directory: "%s"
  pidfile: ""
  use-syslog: no
  num-threads: 1
  do-not-query-localhost: no
  module-config: "iterator"
  local-zone: "test." nodefault
forward-zone:
  name: "."
  forward-addr: 127.0.0.1@5399
`, host, port, dir)
	return []string{tool("unbound"), "-d", "-c", file}, os.WriteFile(file, []byte(text), 0o600)
}

func consul(dir, addr string) ([]string, error) {
	_, port, _ := strings.Cut(addr, ":")
	file := filepath.Join(dir, "consul.json")
	text := fmt.Sprintf(`{"ports":{"dns":%s,"http":5381},"disable_update_check":true}`, port)
	return []string{
		tool("consul"), "agent", "-dev", "-node", "n1", "-bind", "127.0.0.1", "-client", "127.0.0.1",
		"-config-file", file, "-log-level", "err",
	}, os.WriteFile(file, []byte(text), 0o600)
}

// fill registers the services through Consul's API, ours or theirs.
func fill(api string) func() error {
	return func() error {
		for s := range services {
			for i := range 3 {
				body, err := json.Marshal(map[string]any{
					"Name": fmt.Sprintf("s%d", s), "ID": fmt.Sprintf("s%d-%d", s, i),
					"Address": fmt.Sprintf("10.%d.%d.%d", i, s/250, s%250+1), "Port": 8000,
				})
				if err != nil {
					return err
				}
				r, err := http.NewRequest(http.MethodPut, "http://"+api+"/v1/agent/service/register", bytes.NewReader(body))
				if err != nil {
					return err
				}
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					return err
				}
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					return fmt.Errorf("register at %s: %s", api, resp.Status)
				}
			}
		}
		return nil
	}
}

// upstream starts nsd with the zone that everybody forwards to.
func (b *bench) upstream() error {
	var z bytes.Buffer
	z.WriteString("$ORIGIN bench.test.\n$TTL 86400\n@ SOA ns h 1 3600 600 86400 30\n@ NS ns\nns A 192.0.2.1\n")
	for i := range names {
		fmt.Fprintf(&z, "n%d A 10.%d.%d.%d\n", i, i>>16, i>>8&255, i&255)
	}
	zone, conf := filepath.Join(b.dir, "zone"), filepath.Join(b.dir, "nsd.conf")
	text := fmt.Sprintf(`server:
  ip-address: 127.0.0.1@5399
  username: ""
  chroot: ""
  zonesdir: "%[1]s"
  database: ""
  pidfile: "%[1]s/nsd.pid"
  xfrdfile: "%[1]s/xfrd.state"
  zonelistfile: "%[1]s/zone.list"
remote-control:
  control-enable: no
zone:
  name: bench.test.
  zonefile: %[2]s
`, b.dir, zone)
	if err := os.WriteFile(zone, z.Bytes(), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return err
	}
	_, err := b.spawn("127.0.0.1:5399", tool("nsd"), "-d", "-c", conf)
	return err
}

// spawn starts a program and waits until it answers DNS at addr.
func (b *bench) spawn(addr string, args ...string) (*exec.Cmd, error) {
	c := exec.Command(args[0], args[1:]...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.WaitDelay = time.Second
	if err := c.Start(); err != nil {
		return nil, err
	}
	b.running = append(b.running, c)
	m := new(dns.Msg)
	m.SetQuestion("n1.bench.test.", dns.TypeA)
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	for {
		if _, err := dns.ExchangeContext(ctx, m, addr); err == nil {
			return c, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s does not answer at %s:\n%s", filepath.Base(args[0]), addr, out.String())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (b *bench) stopAll() {
	for _, c := range b.running {
		_ = c.Process.Signal(syscall.SIGTERM)
	}
	for _, c := range b.running {
		t := time.AfterFunc(10*time.Second, func() { _ = c.Process.Kill() })
		_ = c.Wait()
		t.Stop()
	}
	b.running = nil
}
