package settings

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// Settings is everything that a node is told outside its Corefile. The zero value is
// not usable: start from [Default].
type Settings struct {
	// Node describes this host in the registry.
	Node Node
	// Datacenter is the name in `<name>.service.<datacenter>.dc.<zone>`; one label in
	// lower case. Default "dc1".
	Datacenter string
	// DataDir holds what must survive a restart; absolute. See docs/resolverd.yaml.md
	// for what is in it.
	DataDir string
	// Corefile is the path of the Corefile, or "" for the embedded one.
	Corefile string
	// ServicesDir holds service definitions that are applied as they change; "" for none.
	ServicesDir string
	// DNSPort is the port of server blocks that name none. Default 53.
	DNSPort uint16
	// API is the HTTP API.
	API API
	// Checks are the defaults for checks that say nothing of their own.
	Checks Checks
	// Log says what is logged, and how.
	Log Log
	// Answerer is the process that answers queries.
	Answerer Answerer
}

// Node describes this host in the registry.
type Node struct {
	// Name is unique in the registry. Default: the host name.
	Name string
	// Address is where this node's services are reached unless they say otherwise. The
	// zero Addr means the address of the interface with the default route.
	Address netip.Addr
	// Zone is where the host stands (a rack, a room); may be "".
	Zone string
	// Meta is shown as TXT and in the API. At most 64 pairs; may be nil.
	Meta map[string]string
}

// API is where and for whom the HTTP API listens.
type API struct {
	// Address is the listen address. Off loopback it needs a token.
	Address netip.AddrPort
	// TokenFile is the file that Token was read from, or "".
	TokenFile string
	// Token must be given by every caller; "" lets everybody on loopback in.
	Token string
}

// Checks are defaults and permissions of checks.
type Checks struct {
	Interval time.Duration // between two runs; 100 ms to 24 h, default 5 s
	Timeout  time.Duration // of one run; 10 ms to 1 h, default 1 s
	// APIScripts lets script checks in through the API. It needs API.Token.
	APIScripts bool
}

// Log says what is logged, and how.
type Log struct {
	Level  slog.Level
	Format string // "text" or "json"
}

// Answerer is the process that parses strangers' packets.
type Answerer struct {
	// User is whom it runs as when `resolverd run` is started by root; "" for the
	// starter.
	User string
}

// Files that are used when they are there and nothing else was named.
const (
	DefaultFile        = "/etc/resolverd/resolverd.yaml"
	DefaultCorefile    = "/etc/resolverd/Corefile"
	DefaultServicesDir = "/etc/resolverd/services.d"
)

// Default returns the settings of a node that nobody told anything.
func Default() Settings {
	s := Settings{
		Datacenter: "dc1",
		DataDir:    defaultDataDir(),
		DNSPort:    53,
		API:        API{Address: netip.MustParseAddrPort("127.0.0.1:8553")},
		Checks:     Checks{Interval: 5 * time.Second, Timeout: time.Second},
		Log:        Log{Level: slog.LevelInfo, Format: "text"},
	}
	s.Node.Name, _ = os.Hostname()
	if isFile(DefaultCorefile) {
		s.Corefile = DefaultCorefile
	}
	if isDir(DefaultServicesDir) {
		s.ServicesDir = DefaultServicesDir
	}
	return s
}

func defaultDataDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/resolverd"
	}
	if d := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "resolverd")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".local", "state", "resolverd")
}

func isFile(p string) bool {
	fi, err := os.Stat(p)
	return err == nil && fi.Mode().IsRegular()
}

func isDir(p string) bool {
	fi, err := os.Stat(p)
	return err == nil && fi.IsDir()
}

// The parts of the data directory.

// AgentDir is the agent's own directory, 0700: the store.
func (s Settings) AgentDir() string { return filepath.Join(s.DataDir, "agent") }

// AnswererDir is the answerer's own directory, 0700: the view on disk.
func (s Settings) AnswererDir() string { return filepath.Join(s.DataDir, "answerer") }

// RunDir holds the sockets, 0750.
func (s Settings) RunDir() string { return filepath.Join(s.DataDir, "run") }

// LockFile is held by `resolverd run` for as long as it lives.
func (s Settings) LockFile() string { return filepath.Join(s.DataDir, "lock") }

// NodeIDFile holds the UUID of this data directory.
func (s Settings) NodeIDFile() string { return filepath.Join(s.DataDir, "node-id") }

// ControlSocket is where the answerer takes orders.
func (s Settings) ControlSocket() string { return filepath.Join(s.RunDir(), "control.sock") }

// RelaySocket is where the agent streams the registry.
func (s Settings) RelaySocket() string { return filepath.Join(s.RunDir(), "relay.sock") }
