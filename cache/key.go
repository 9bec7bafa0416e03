package cache

import (
	"errors"

	"github.com/miekg/dns"
)

// A key is: one octet of flags, QTYPE, QCLASS, and QNAME in wire form with its letters
// in lower case; perhaps a client's subnet, see AppendScope.
const (
	keyPrefix = 5
	maxName   = 255 // RFC 1035, section 2.3.4
	// MaxKey is the longest key in octets, for a caller that keeps one on its stack.
	MaxKey = keyPrefix + maxName + maxScope
)

// Flags are the bits of a query that make another response. The AD bit is not among
// them: a response is fetched with it and stripped for those who did not set it.
type Flags byte

const (
	// RD is the recursion desired bit. Without it a resolver may refuse or refer, and
	// who sends such a query must not choose the answer of those who want recursion.
	RD Flags = 1 << iota
	// DO is the DNSSEC OK bit (RFC 3225).
	DO
	// CD is the checking disabled bit (RFC 4035).
	CD
)

var errName = errors.New("cache: malformed name")

// AppendKey appends to dst the key of the query for the name, which is an uncompressed
// QNAME in wire form in any case. A response for one setting of the flags is never found
// under another. It does not allocate where dst has room for [MaxKey] octets. The name is
// not checked here.
func AppendKey(dst, name []byte, qtype, qclass uint16, f Flags) []byte {
	dst = append(dst, byte(f), byte(qtype>>8), byte(qtype), byte(qclass>>8), byte(qclass))
	n := len(dst)
	dst = append(dst, name...)
	lower(dst[n:])
	return dst
}

// AppendQuestionKey is [AppendKey] for a question in presentation form. It fails for a
// name that does not fit the wire.
func AppendQuestionKey(dst []byte, q dns.Question, f Flags) ([]byte, error) {
	var wire [maxName + 1]byte
	n, err := dns.PackDomainName(q.Name, wire[:], 0, nil, false)
	if err != nil {
		return dst, errName
	}
	return AppendKey(dst, wire[:n], q.Qtype, q.Qclass, f), nil
}

// lower folds ASCII letters. A length octet is at most 63, below every letter, so that
// a wire name need not be walked.
func lower(b []byte) {
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
}

// keyName returns the name in a key.
func keyName(key []byte) []byte {
	if Flags(key[0])&scoped == 0 {
		return key[keyPrefix:]
	}
	i := keyPrefix
	for i < len(key) && key[i] != 0 {
		i += 1 + int(key[i])
	}
	return key[keyPrefix:min(i+1, len(key))]
}

// validKey says whether key has the shape that AppendKey gives it.
func validKey(key []byte) bool {
	if len(key) <= keyPrefix || len(key) > MaxKey {
		return false
	}
	name := keyName(key)
	if s, ok := scopeOf(key); ok && string(AppendScope(append([]byte(nil), key[:keyPrefix+len(name)]...), s)) != string(key) {
		return false
	}
	for i := 0; i < len(name); {
		l := int(name[i])
		if l == 0 {
			return i == len(name)-1
		}
		if l > 63 {
			return false
		}
		i += 1 + l
	}
	return false
}

// below says whether the name is zone or beneath it; both are lower-case wire names.
func below(name, zone []byte) bool {
	for len(name) > len(zone) {
		name = name[1+int(name[0]):]
	}
	return string(name) == string(zone)
}
