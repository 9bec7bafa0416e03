package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/resolverd/resolverd/api/client"
	"github.com/resolverd/resolverd/cmd/resolverd/settings"
	"github.com/resolverd/resolverd/cmd/resolverd/supervisor"
	"github.com/resolverd/resolverd/registry"
)

// demoPlan is what `resolverd run --demo` does otherwise than `resolverd run`: it
// stays on loopback, takes ports that are free, and has a service to show.
type demoPlan struct {
	env   []string // for the answerer: the embedded Corefile's variables
	input []byte   // settings for the demo child
}

const demoPort = 5300

// planDemo puts free ports into l, where no flag says otherwise.
func planDemo(cmd *cobra.Command, l *settings.Loaded) (*demoPlan, error) {
	given := func(flag string) bool { return cmd.Flags().Changed(flag) }
	p := &demoPlan{}
	if !given("corefile") {
		l.Corefile = ""
	}
	if !given("dns-port") {
		port, err := freePort(demoPort, "udp", "tcp")
		if err != nil {
			return nil, err
		}
		l.DNSPort = port
	}
	if !given("api") {
		port, err := freePort(8553, "tcp")
		if err != nil {
			return nil, err
		}
		l.API.Address = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
	}
	if !given("address") {
		l.Node.Address = netip.MustParseAddr("127.0.0.1")
	}
	if !given("services-dir") {
		l.ServicesDir = filepath.Join(l.DataDir, "services.d")
		if err := os.MkdirAll(l.ServicesDir, 0o755); err != nil {
			return nil, dirError(l.ServicesDir, err)
		}
	}
	if !given("log-level") {
		l.Log.Level = slog.LevelWarn
	}
	from := 8554
	for _, name := range []string{"RESOLVERD_HEALTH", "RESOLVERD_READY", "RESOLVERD_METRICS"} {
		if os.Getenv(name) != "" {
			continue
		}
		if name == "RESOLVERD_METRICS" {
			from = 9153
		}
		port, err := freePort(from, "tcp")
		if err != nil {
			return nil, err
		}
		p.env = append(p.env, name+"=127.0.0.1:"+strconv.Itoa(int(port)))
		from = int(port) + 1
	}
	var err error
	p.input, err = handOver(*l)
	return p, err
}

func (p *demoPlan) child(self string) supervisor.Child {
	return supervisor.Child{
		Name: "demo", Path: self, Title: "resolverd", Args: []string{"demo"}, Input: p.input,
		Env: append(os.Environ(), processVariable+"=child"),
	}
}

// freePort returns the first port from first on that nobody on loopback has.
func freePort(first int, networks ...string) (uint16, error) {
next:
	for port := first; port < first+100; port++ {
		for _, n := range networks {
			if !portFree(n, port) {
				if port == first {
					fmt.Fprintf(os.Stderr, "port %d is taken, trying the next\n", port)
				}
				continue next
			}
		}
		return uint16(port), nil
	}
	return 0, fail(exitInUse, "", "no port from %d to %d is free on 127.0.0.1", first, first+99)
}

func portFree(network string, port int) bool {
	a := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	if network == "udp" {
		c, err := net.ListenPacket(network, a)
		if err != nil {
			return false
		}
		return c.Close() == nil
	}
	c, err := net.Listen(network, a)
	if err != nil {
		return false
	}
	return c.Close() == nil
}

// newDemo is the child that has a service to show.
func newDemo() *cobra.Command {
	c := &cobra.Command{
		Use:    "demo",
		Short:  "the demo service of resolverd run --demo",
		Hidden: true,
		Args:   exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := loadSettings(cmd)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return demonstrate(ctx, l, cmd.OutOrStdout())
		},
	}
	settings.AddFlags(c.Flags())
	return c
}

const demoService = "demo"

// demonstrate serves a page on loopback, registers it with a check, and says what to
// ask once the check passes.
func demonstrate(ctx context.Context, l settings.Loaded, out io.Writer) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	srv := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			// Who asked may have gone.
			_, _ = io.WriteString(w, "This is the demo service of resolverd.\n")
		}),
	}
	var served sync.WaitGroup
	served.Go(func() { _ = srv.Serve(ln) }) // until Close
	defer served.Wait()
	defer srv.Close()

	at := ln.Addr().(*net.TCPAddr).AddrPort()
	api, err := client.New(client.Config{Address: l.API.Address.String(), Token: l.API.Token})
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer api.Close()
	instance := &registry.Instance{Service: demoService, ID: demoService, Address: registry.HostOf(at.Addr()), Port: at.Port(), Tags: []string{"v1"}}
	check := &registry.Check{Definition: &registry.CheckDefinition{
		Kind: registry.CheckHTTP, URL: "http://" + at.String() + "/", Interval: registry.Duration(time.Second),
	}}
	err = retry(ctx, func() error {
		_, err := api.Register(ctx, instance, []*registry.Check{check})
		return err
	})
	if err == nil {
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
			defer cancel()
			if _, err := api.Deregister(ctx, "", demoService); err != nil {
				fmt.Fprintln(os.Stderr, "demo:", err)
			}
		}()
		err = retry(ctx, func() error { return passing(ctx, api) })
	}
	switch {
	case ctx.Err() != nil: // told to stop meanwhile
		return nil
	case err != nil:
		return fmt.Errorf("demo: %w", err)
	}
	demoText(out, l, int(at.Port()))
	<-ctx.Done()
	return nil
}

// passing returns nil when the demo service is answered.
func passing(ctx context.Context, c *client.Client) error {
	list, err := c.Instances(ctx, client.Query{Service: demoService})
	if err != nil {
		return err
	}
	for _, i := range list {
		if i.Weight > 0 {
			return nil
		}
	}
	return errors.New("the check has not passed yet")
}

// demoText says what to ask, and what the answer shows.
func demoText(out io.Writer, l settings.Loaded, port int) {
	self, err := os.Executable()
	if err != nil {
		self = "resolverd"
	}
	dir := l.ServicesDir
	if wd, err := os.Getwd(); err == nil {
		for _, p := range []*string{&self, &dir} {
			if rel, err := filepath.Rel(wd, *p); err == nil && !strings.HasPrefix(rel, "..") {
				*p = rel
			}
		}
	}
	api := ""
	if l.API.Address != settings.Default().API.Address {
		api = " --api " + l.API.Address.String()
	}
	fmt.Fprintf(out, `
resolverd answers on 127.0.0.1 port %[1]d. Ask it from another terminal:

  dig @127.0.0.1 -p %[1]d %[2]s.service.internal +short
      127.0.0.1: the demo service, whose http check passes
  dig @127.0.0.1 -p %[1]d %[2]s.service.internal SRV +short
      the same with priority, weight and port %[3]d
  dig @127.0.0.1 -p %[1]d example.com
      the upstreams of /etc/resolv.conf; the second time from the cache
  dig @127.0.0.1 -p %[1]d consul.service.consul
      Consul on 127.0.0.1:8600; where none runs, SERVFAIL that says so (EDE)

Look at it, and change it:

  %[4]s service show %[2]s%[5]s
  %[4]s service maintenance %[2]s%[5]s
      takes it out: the first dig says NXDOMAIN; --off puts it back
  echo 'service: {name: web, address: 192.0.2.1, port: 80}' > %[6]s/web.yaml
      dig @127.0.0.1 -p %[1]d web.service.internal +short; gone again when the file goes

Ctrl-C stops.
`, l.DNSPort, demoService, port, self, api, dir)
}

// retry calls f until it succeeds or ctx ends.
func retry(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
