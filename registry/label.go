package registry

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
)

// MaxLabel is the longest DNS label in octets (RFC 1035, section 2.3.4).
const MaxLabel = 63

// IsLabel reports whether s can stand as one label of a host name: 1 to 63 letters,
// digits, hyphens or underscores, no hyphen at either end. What is no label is stored
// all the same and simply has no name.
func IsLabel(s string) bool {
	if len(s) == 0 || len(s) > MaxLabel || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// Fold lowers ASCII letters, as names are compared (RFC 4343). It returns s itself
// where nothing changes.
func Fold(s string) string { return strings.ToLower(s) }

var labelEncoding = base32.HexEncoding.WithPadding(base32.NoPadding)

// InstanceLabel returns the DNS label of the instance (node, id): a stable hash of
// both, 14 octets, the same on every resolver and for ever. Two instances of one
// service share it with a chance of one in 2^64.
func InstanceLabel(node, id string) string {
	sum := sha256.Sum256([]byte(Fold(node) + "\x00" + id))
	return "i" + strings.ToLower(labelEncoding.EncodeToString(sum[:8]))
}
