package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"

	"github.com/resolverd/resolverd/api"
)

// serveHTTP serves the handler on the API's address until the agent stops.
func (a *agent) serveHTTP(h http.Handler) (netip.AddrPort, error) {
	l, err := net.Listen("tcp", a.cfg.API.String())
	if err != nil {
		err = fmt.Errorf("agent: API: %w", err)
		if errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("%w; hint: another program has the port, choose one with --api ADDRESS:PORT", err)
		}
		return netip.AddrPort{}, err
	}
	a.spawn("API", func(ctx context.Context) error { return api.Serve(ctx, l, h, a.log) })
	return l.Addr().(*net.TCPAddr).AddrPort(), nil
}
