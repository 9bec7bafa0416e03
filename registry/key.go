package registry

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// FormatVersion is the version of keys and values that this build writes. Version N
// reads N-1, and ignores fields that it does not know.
const FormatVersion = 1

// Prefix is where the registry's records stand in the store. All that a view follows is
// below it; what stands beside it (history, the cluster's own keys) is not relayed.
const Prefix = "/resolverd/1/registry/"

// Kind says what a record is.
type Kind string

// The kinds of record. A reader skips a kind that it does not know.
const (
	KindNode      Kind = "node"     // <node>
	KindInstance  Kind = "instance" // <node>/<id>
	KindCheck     Kind = "check"    // <node>/<check id>
	KindAlive     Kind = "alive"    // <node>, leased by its agent
	KindTombstone Kind = "tomb"     // <node>/<id>
	KindRole      Kind = "role"     // <role>
)

// Key names a record. Node is lower-cased; ID is as given, and empty for kinds that have
// none.
type Key struct {
	Kind Kind
	Node string // node name, or role name for KindRole
	ID   string
}

// Keys of the model's parts.

// NodeKey returns the key of a node.
func NodeKey(node string) Key { return Key{Kind: KindNode, Node: Fold(node)} }

// InstanceRecordKey returns the key of the instance (node, id).
func InstanceRecordKey(node, id string) Key {
	return Key{Kind: KindInstance, Node: Fold(node), ID: id}
}

// CheckKey returns the key of the check (node, id).
func CheckKey(node, id string) Key { return Key{Kind: KindCheck, Node: Fold(node), ID: id} }

// AliveKey returns the key that a node's agent holds with its lease.
func AliveKey(node string) Key { return Key{Kind: KindAlive, Node: Fold(node)} }

// TombstoneKey returns the key of the tombstone of (node, id).
func TombstoneKey(node, id string) Key {
	return Key{Kind: KindTombstone, Node: Fold(node), ID: id}
}

// RoleKey returns the key of a role.
func RoleKey(name string) Key { return Key{Kind: KindRole, Node: Fold(name)} }

// String returns the key as it stands in the store: Prefix, kind and the parts, each
// percent-encoded so that a slash in an id is no separator.
func (k Key) String() string {
	s := Prefix + string(k.Kind) + "/" + url.PathEscape(k.Node)
	if k.ID != "" {
		s += "/" + url.PathEscape(k.ID)
	}
	return s
}

// ErrForeignKey is returned for a key that is not the registry's.
var ErrForeignKey = errors.New("registry: not a registry key")

// ParseKey reads what String wrote.
func ParseKey(s string) (Key, error) {
	rest, ok := strings.CutPrefix(s, Prefix)
	if !ok {
		return Key{}, ErrForeignKey
	}
	parts := strings.Split(rest, "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" {
		return Key{}, fmt.Errorf("%w: %q", ErrForeignKey, s)
	}
	k := Key{Kind: Kind(parts[0])}
	var err error
	if k.Node, err = url.PathUnescape(parts[1]); err != nil {
		return Key{}, fmt.Errorf("registry: key %q: %w", s, err)
	}
	if len(parts) == 3 {
		if k.ID, err = url.PathUnescape(parts[2]); err != nil {
			return Key{}, fmt.Errorf("registry: key %q: %w", s, err)
		}
	}
	return k, nil
}
