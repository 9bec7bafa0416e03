package agent

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"

	"github.com/resolverd/resolverd/api"
)

// serveHTTP serves the handler on the API's address until the agent stops.
func (a *agent) serveHTTP(h http.Handler) (netip.AddrPort, error) {
	l, err := net.Listen("tcp", a.cfg.API.String())
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("agent: API: %w", err)
	}
	a.spawn("API", func(ctx context.Context) error { return api.Serve(ctx, l, h, a.log) })
	return l.Addr().(*net.TCPAddr).AddrPort(), nil
}
