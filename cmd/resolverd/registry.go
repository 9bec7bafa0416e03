package main

import (
	"errors"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/resolverd/resolverd/api/client"
	"github.com/resolverd/resolverd/cmd/resolverd/settings"
)

// addAPI gives a command that speaks to the HTTP API the flags that find it.
func addAPI(c *cobra.Command) {
	c.Flags().String("api", "", "address of the HTTP API (default 127.0.0.1:8553)")
	c.Flags().String("api-token-file", "", "file with the token that the API asks for; or $RESOLVERD_API_TOKEN")
	c.Flags().String("config", "", "resolverd.yaml to take api from (default "+settings.DefaultFile+" if it is there)")
}

// tokenVariable holds the token itself, for clients.
const tokenVariable = "RESOLVERD_API_TOKEN"

func newAPIClient(cmd *cobra.Command) (*client.Client, error) {
	l, err := clientSettings(cmd)
	if err != nil {
		return nil, err
	}
	a := l.API.Address
	if a.Addr().IsUnspecified() {
		loopback := netip.MustParseAddr("127.0.0.1")
		if a.Addr().Is6() {
			loopback = netip.IPv6Loopback()
		}
		a = netip.AddrPortFrom(loopback, a.Port())
	}
	token := l.API.Token
	if t := os.Getenv(tokenVariable); t != "" && !cmd.Flags().Changed("api-token-file") {
		token = t
	}
	return client.New(client.Config{Address: a.String(), Token: token})
}

// apiError gives an error of the client its exit code and hint.
func apiError(err error) error {
	var refused *client.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, client.ErrUnreachable):
		f := &failure{code: exitUnreachable, err: err}
		if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, client.ErrOther) {
			f.hint = "start resolverd, or give the address that its API has with --api"
		}
		return f
	case !errors.As(err, &refused):
		return err
	}
	f := &failure{code: exitFailure, err: err}
	switch refused.Status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		f.code = exitUsage
	case http.StatusUnauthorized, http.StatusForbidden:
		f.code = exitDenied
		if strings.Contains(strings.ToLower(refused.Text), "token") {
			f.hint = "--api-token-file FILE or RESOLVERD_API_TOKEN=... gives the token"
		}
	case http.StatusNotFound:
		f.code = exitNotFound
	}
	return f
}
