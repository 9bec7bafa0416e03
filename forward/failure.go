package forward

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"syscall"

	"github.com/miekg/dns"
)

var (
	// ErrNoUpstream means that no upstream is known: the files name none.
	ErrNoUpstream = errors.New("no upstream is known")
	// ErrLoop means that every upstream is a listener of this process.
	ErrLoop = errors.New("every upstream is this resolver itself")
	// ErrAllDown means that all upstreams are down and FailFast is set.
	ErrAllDown = errors.New("all upstreams are down")
)

// Failure is why a query got no response. Its Err wraps one of this package's errors or
// the last upstream's.
type Failure struct {
	// Upstream was asked last; the zero value if none was.
	Upstream Endpoint
	// Attempts is how many were asked.
	Attempts int
	// Err is never nil.
	Err error
}

// Error implements error.
func (f *Failure) Error() string {
	if f.Attempts == 0 {
		return "forward: " + f.Err.Error()
	}
	return fmt.Sprintf("%s (attempts: %d)", f.Err, f.Attempts)
}

// Unwrap returns Err.
func (f *Failure) Unwrap() error { return f.Err }

// Explain returns the failure as an Extended DNS Error (RFC 8914): the code, 22 where
// nobody answered and 23 where the network said no, and a short text.
func (f *Failure) Explain() (code uint16, text string) {
	if f.Attempts == 0 {
		return dns.ExtendedErrorCodeNoReachableAuthority, f.Err.Error()
	}
	code = dns.ExtendedErrorCodeNetworkError
	if isTimeout(f.Err) {
		code = dns.ExtendedErrorCodeNoReachableAuthority
	}
	return code, "upstream " + f.Upstream.Label() + ": " + Reason(f.Err)
}

// Reason returns what went wrong in a few words, without addresses and names.
func Reason(err error) string {
	var (
		errno syscall.Errno
		cert  *tls.CertificateVerificationError
		alert tls.AlertError
	)
	switch {
	case err == nil:
		return "no error"
	case isTimeout(err):
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &cert):
		return "certificate not trusted"
	case errors.As(err, &alert):
		return alert.Error()
	case errors.Is(err, errMalformed), errors.Is(err, errDoubtful):
		return "malformed reply"
	case errors.Is(err, ErrAllDown):
		return ErrAllDown.Error()
	case errors.Is(err, ErrNoUpstream):
		return ErrNoUpstream.Error()
	}
	return "connection failed"
}
