package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"time"
)

// Config is what Run needs to know of this host. Node, Address, DataDir, RunDir and API
// are required.
type Config struct {
	// Node is this host's name in the registry, NodeID a UUID that stays with its data
	// directory, Datacenter what the API calls the whole.
	Node, NodeID, Datacenter string
	// Address is the default for the instances of this host.
	Address netip.Addr
	// Zone names where the host stands, Meta is free; both may be empty.
	Zone string
	Meta map[string]string

	// DataDir is the agent's own directory, mode 0700: the store is in it.
	DataDir string
	// RunDir is what the agent shares with the answerer, mode 0750: relay.sock.
	RunDir string
	// ServicesDir holds definition files; "" for none.
	ServicesDir string

	// API is where the HTTP API listens. Off loopback it needs APIToken.
	API      netip.AddrPort
	APIToken string
	// APIScripts takes script checks over the API; it needs APIToken.
	APIScripts bool

	// AnswererUID is the user that may follow the relay beside root and the agent's own;
	// 0 where that is the same.
	AnswererUID int
	// AnswererGID owns relay.sock, so that the answerer may connect; 0 leaves the
	// process's own group.
	AnswererGID int

	// CheckInterval and CheckTimeout are for checks that name none; 0 for 5 s and 1 s.
	CheckInterval, CheckTimeout time.Duration
	// AliveTTL is the time to live of the node's lease, default 15 s.
	AliveTTL time.Duration
	// Grace is how long the node counts as restarting after a stop, default 60 s.
	Grace time.Duration

	// Version is the program's.
	Version string
	// Log takes what an operator should know; default slog.Default().
	Log *slog.Logger
	// Ready is called once everything is up, with the address that the API listens on.
	// May be nil.
	Ready func(api netip.AddrPort)
}

func (c *Config) defaults() {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Datacenter == "" {
		c.Datacenter = "dc1"
	}
	if c.AliveTTL <= 0 {
		c.AliveTTL = 15 * time.Second
	}
	if c.Grace <= 0 {
		c.Grace = time.Minute
	}
	if c.Ready == nil {
		c.Ready = func(netip.AddrPort) {}
	}
}

// Validate reports all that is wrong with the settings at once.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("agent: "+format, args...)) }
	if c.Node == "" {
		bad("no node name")
	}
	if !c.Address.IsValid() || c.Address.IsUnspecified() || c.Address.Zone() != "" {
		bad("node address %q is none that others can reach", c.Address)
	}
	if c.DataDir == "" || c.RunDir == "" {
		bad("no data directory or no run directory")
	}
	if !c.API.IsValid() {
		bad("API address %q", c.API)
	} else if c.APIToken == "" && !c.API.Addr().Unmap().IsLoopback() {
		bad("the API on %s is reached by others and needs a token; hint: --api-token-file FILE, or listen on 127.0.0.1", c.API)
	}
	if c.APIScripts && c.APIToken == "" {
		bad("script checks over the API need a token, on loopback too; hint: --api-token-file FILE")
	}
	return errors.Join(errs...)
}

func (c *Config) storeDir() string    { return filepath.Join(c.DataDir, "store") }
func (c *Config) relaySocket() string { return filepath.Join(c.RunDir, "relay.sock") }
