package check

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/resolverd/resolverd/registry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"
)

// grpcProbe asks grpc.health.v1.Health/Check. SERVING is passing, all else critical.
type grpcProbe struct {
	target  string // host:port
	service string // "" for the server as a whole
	creds   credentials.TransportCredentials
}

func newGRPC(d *registry.CheckDefinition) *grpcProbe {
	p := &grpcProbe{creds: insecure.NewCredentials()}
	p.target, p.service, _ = strings.Cut(d.Target, "/")
	if d.TLS {
		host, _, _ := net.SplitHostPort(p.target)
		p.creds = credentials.NewTLS(tlsConfig(d, host))
	}
	return p
}

func (p *grpcProbe) probe(ctx context.Context) result {
	conn, err := grpc.NewClient("passthrough:///"+p.target,
		grpc.WithTransportCredentials(p.creds),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithUserAgent(userAgent),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxOutput)),
		grpc.WithMaxHeaderListSize(maxHTTPHeaders),
	)
	if err != nil {
		return critical("gRPC %s: %v", p.target, err)
	}
	defer conn.Close()
	resp, err := health.NewHealthClient(conn).Check(ctx, &health.HealthCheckRequest{Service: p.service})
	what := fmt.Sprintf("gRPC %s/%s", p.target, p.service)
	switch {
	case err != nil:
		return critical("%s: %s", what, why(ctx, err))
	case resp.GetStatus() != health.HealthCheckResponse_SERVING:
		return critical("%s: %s", what, resp.GetStatus())
	}
	return passing("%s: SERVING", what)
}
