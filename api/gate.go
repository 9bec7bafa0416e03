package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// CheckListen returns an error where the API must not listen on the address: anywhere
// but on loopback without a token.
func CheckListen(a netip.AddrPort, token string) error {
	if token == "" && !a.Addr().Unmap().IsLoopback() {
		return fmt.Errorf("api: listen on %s: an address off loopback needs a token (--api-token-file)", a)
	}
	return nil
}

// gate lets a call in, or says why not.
func (s *server) gate(c *call) error {
	if len(c.RequestURI) > maxURL {
		return fail(http.StatusRequestURITooLong, "the URL is longer than %d octets", maxURL)
	}
	if s.Token != "" {
		return s.gateToken(c)
	}
	if !s.hostAllowed(c) {
		return fail(http.StatusForbidden, "Host %s is not this API's: use localhost, a loopback address or %q (a web page may have been made to look like us)", clip(fmt.Sprintf("%q", c.Host)), s.Node)
	}
	if o := c.Header.Get("Origin"); o != "" && c.Method != http.MethodGet {
		if u, err := url.Parse(o); err != nil || !strings.EqualFold(u.Host, c.Host) {
			return fail(http.StatusForbidden, "a page from %s may not write here", clip(fmt.Sprintf("%q", o)))
		}
	}
	return nil
}

// gateToken asks for the token, in any of the places where Consul's clients put it.
func (s *server) gateToken(c *call) error {
	given := c.Header.Get("X-Consul-Token")
	if given == "" {
		if scheme, t, ok := strings.Cut(c.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
			given = strings.TrimSpace(t)
		}
	}
	if given == "" {
		given = c.URL.Query().Get("token")
	}
	want, got := sha256.Sum256([]byte(s.Token)), sha256.Sum256([]byte(given))
	if subtle.ConstantTimeCompare(want[:], got[:]) == 1 {
		return nil
	}
	if given == "" {
		return fail(http.StatusForbidden, "Permission denied: this API needs a token (header X-Consul-Token, or Authorization: Bearer)")
	}
	return fail(http.StatusForbidden, "Permission denied: wrong token")
}

// hostAllowed guards against DNS rebinding: a web page whose name was made to resolve to
// loopback sends that name. It looks only at connections to loopback.
func (s *server) hostAllowed(c *call) bool {
	local, _ := c.Context().Value(http.LocalAddrContextKey).(net.Addr)
	tcp, ok := local.(*net.TCPAddr)
	if local != nil && !ok {
		return true // a Unix socket: no page reaches it
	}
	if ok && !tcp.AddrPort().Addr().Unmap().IsLoopback() {
		return true
	}
	host := c.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if a, err := netip.ParseAddr(host); err == nil {
		if a.Unmap().IsLoopback() {
			return true
		}
		n := s.View.Load().Node(s.Node)
		if n == nil {
			return false
		}
		own, _ := n.Address.Addr()
		return own == a.Unmap()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || host == strings.ToLower(s.Node)
}
