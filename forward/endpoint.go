package forward

import (
	"fmt"
	"net/netip"
)

// Transport is how an upstream is spoken to.
type Transport uint8

// The transports. The zero value is plain DNS.
const (
	Plain Transport = iota // UDP and TCP, RFC 1035
	TLS                    // DNS over TLS, RFC 7858
	HTTPS                  // DNS over HTTPS, RFC 8484
	QUIC                   // DNS over QUIC, RFC 9250
)

// String returns the scheme of a Corefile: dns, tls, https or quic.
func (t Transport) String() string {
	switch t {
	case Plain:
		return "dns"
	case TLS:
		return "tls"
	case HTTPS:
		return "https"
	case QUIC:
		return "quic"
	}
	return fmt.Sprintf("transport(%d)", uint8(t))
}

// DefaultPort returns the port of the transport's RFC.
func (t Transport) DefaultPort() uint16 {
	switch t {
	case TLS, QUIC:
		return 853
	case HTTPS:
		return 443
	}
	return 53
}

// Endpoint is one upstream: where it is and how it is spoken to. It is comparable, and
// two equal endpoints of a pool are one upstream.
type Endpoint struct {
	Transport Transport
	// Addr must be valid and its port not 0. An IPv6 zone is kept.
	Addr netip.AddrPort
	// ServerName is the name that the certificate must carry; "" asks for the address
	// itself. Without meaning for plain DNS.
	ServerName string
}

// Label returns address and port without scheme, as in the metrics' label "to".
func (e Endpoint) Label() string { return e.Addr.String() }

// String returns the endpoint as a Corefile writes it, with the port.
func (e Endpoint) String() string {
	s := e.Addr.String()
	if e.Transport != Plain {
		s = e.Transport.String() + "://" + s
	}
	if e.ServerName != "" {
		s += "%" + e.ServerName
	}
	return s
}
