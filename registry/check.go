package registry

import (
	"encoding/json"
	"time"
)

// Status is what a check last found.
type Status string

// The statuses, Consul's.
const (
	Passing  Status = "passing"
	Warning  Status = "warning"
	Critical Status = "critical"
)

// Valid reports whether s is one of the three.
func (s Status) Valid() bool { return s == Passing || s == Warning || s == Critical }

// Worse returns the worse of two statuses.
func (s Status) Worse(o Status) Status {
	if s == Critical || o == Critical {
		return Critical
	}
	if s == Warning || o == Warning {
		return Warning
	}
	return Passing
}

// Ids of the checks that maintenance adds, as Consul names them.
const (
	NodeMaintenance    = "_node_maintenance"
	ServiceMaintenance = "_service_maintenance:" // followed by the instance's id
)

// Check is one check and what it last found. Its identity is (Node, ID). A check
// without an InstanceID counts for every instance of the node.
type Check struct {
	Node       string `json:"node"`
	ID         string `json:"id"`
	Name       string `json:"name"`
	InstanceID string `json:"instance_id,omitempty"`
	Notes      string `json:"notes,omitempty"`
	// Owner is who brought a node-level check; "" for the API, and for the checks of an
	// instance, which go with it.
	Owner Owner `json:"owner,omitempty"`

	Status Status `json:"status"`
	// Output is the last result in words, at most 4,096 octets.
	Output string `json:"output,omitempty"`
	// Ran is false until the check has reported for the first time: its status is then
	// the one it was registered with.
	Ran bool `json:"ran,omitempty"`

	// Definition is what to do; nil for a check whose status only the API sets.
	Definition *CheckDefinition `json:"definition,omitempty"`

	Revisions `json:"-"`
}

// CheckKind says how a check finds its status.
type CheckKind string

// The kinds. A definition has exactly one.
const (
	CheckHTTP   CheckKind = "http" // also https, by the URL
	CheckTCP    CheckKind = "tcp"
	CheckUDP    CheckKind = "udp"
	CheckGRPC   CheckKind = "grpc"
	CheckScript CheckKind = "script"
	CheckTTL    CheckKind = "ttl"
	CheckAlias  CheckKind = "alias"
)

// CheckDefinition tells the agent how to check. Unused fields are zero.
type CheckDefinition struct {
	Kind CheckKind `json:"kind"`

	// URL is what an http check fetches.
	URL           string              `json:"url,omitempty"`
	Method        string              `json:"method,omitempty"` // default GET
	Header        map[string][]string `json:"header,omitempty"`
	Body          string              `json:"body,omitempty"`
	NoRedirects   bool                `json:"no_redirects,omitempty"`
	TLSServerName string              `json:"tls_server_name,omitempty"`
	TLSSkipVerify bool                `json:"tls_skip_verify,omitempty"`

	// Target is host:port of a tcp, udp or grpc check; grpc takes /service behind it.
	Target string `json:"target,omitempty"`
	TLS    bool   `json:"tls,omitempty"` // grpc over TLS, tcp with a handshake

	// Args is the command of a script check, never run through a shell.
	Args []string `json:"args,omitempty"`
	// WarningIsCritical makes exit code 1 critical.
	WarningIsCritical bool `json:"warning_is_critical,omitempty"`

	// TTL is how long a ttl check stays as it was reported before it turns critical.
	TTL Duration `json:"ttl,omitempty"`

	// AliasNode and AliasInstance name what an alias check copies its status from.
	AliasNode     string `json:"alias_node,omitempty"`
	AliasInstance string `json:"alias_instance,omitempty"`

	// Interval is the time between two runs, default 5 s; Timeout bounds one, default 1 s.
	Interval Duration `json:"interval,omitempty"`
	Timeout  Duration `json:"timeout,omitempty"`
	// Results in a row that it takes to become passing (default 1), warning (default as
	// critical) and critical (default 3).
	SuccessBeforePassing   int `json:"success_before_passing,omitempty"`
	FailuresBeforeWarning  int `json:"failures_before_warning,omitempty"`
	FailuresBeforeCritical int `json:"failures_before_critical,omitempty"`
	// DeregisterCriticalAfter takes the instance out when it has been critical this
	// long; at least 1 s, 0 means never.
	DeregisterCriticalAfter Duration `json:"deregister_critical_after,omitempty"`
}

// Duration is a time.Duration that is a string ("5s") in JSON.
type Duration time.Duration

// Std returns d as a time.Duration.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// MarshalJSON writes Go's form, as 1m30s.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON reads Go's form.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return err
	}
	*d = Duration(v)
	return nil
}
