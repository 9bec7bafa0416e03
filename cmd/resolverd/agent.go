package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/resolverd/resolverd/agent"
	"github.com/resolverd/resolverd/cmd/resolverd/settings"
	"github.com/resolverd/resolverd/internal/listenlock"
	"github.com/resolverd/resolverd/registry/store"
)

func newAgent() *cobra.Command {
	c := &cobra.Command{
		Use:   "agent",
		Short: "run the agent alone: registry, checks, HTTP API",
		Long: `Runs the process that holds the registry, runs checks and serves the HTTP API. The
answerer of the same data directory follows it. resolverd run starts both.`,
		Example: "  resolverd agent --name web1 --api 127.0.0.1:8553",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := loadSettings(cmd)
			if err != nil {
				return err
			}
			return runAgent(l)
		},
	}
	settings.AddFlags(c.Flags())
	return c
}

// runAgent runs until SIGTERM. The lease's marker and etcd's end are agent.Run's.
func runAgent(l settings.Loaded) error {
	log := newLogger(l, "agent")
	takeStandardLog(l, log)
	if err := makeDirs(l.Settings); err != nil {
		return err
	}
	lock, err := lockDir(l.AgentDir(), "resolverd agent")
	if err != nil {
		return err
	}
	defer lock.Close()
	// SIGHUP is for the answerer; it must not end this process.
	signal.Ignore(syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()

	id, err := nodeID(l.NodeIDFile())
	if err != nil {
		return err
	}
	address := l.Node.Address
	if !address.IsValid() {
		if address, err = hostAddress(); err != nil {
			log.Warn("address of this node not found, taking loopback", "error", err)
		}
	}
	answerer, other, err := answererIdentity(l.Settings)
	if err != nil {
		return err
	}
	cfg := agent.Config{
		Node: l.Node.Name, NodeID: id, Datacenter: l.Datacenter, Address: address,
		Zone: l.Node.Zone, Meta: l.Node.Meta,
		DataDir: l.AgentDir(), RunDir: l.RunDir(), ServicesDir: l.ServicesDir,
		API: l.API.Address, APIToken: l.API.Token, APIScripts: l.Checks.APIScripts,
		CheckInterval: l.Checks.Interval, CheckTimeout: l.Checks.Timeout,
		Version: readAbout().Version, Log: log,
		Ready: func(netip.AddrPort) { ready(log) },
	}
	if other {
		cfg.AnswererUID, cfg.AnswererGID = answerer.uid, answerer.gid
	}
	return agentError(agent.Run(ctx, cfg), cfg.API)
}

// agentError gives an error of the agent, whose API is at addr, its exit code.
func agentError(err error, addr netip.AddrPort) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, agent.ErrStore):
		return &failure{code: store.ExitStore, err: err}
	case errors.Is(err, syscall.EADDRINUSE):
		err = &listenlock.Taken{Network: "tcp", Addr: addr, Err: syscall.EADDRINUSE, Users: listenlock.Users("tcp", addr)}
		return &failure{code: exitInUse, err: fmt.Errorf("agent: API: %w", err), hint: "give the API another address with --api"}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return &failure{code: exitUsage, err: err, hint: "this host does not have the address; `ip address` lists those it has"}
	}
	return err
}
