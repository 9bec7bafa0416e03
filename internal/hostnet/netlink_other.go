//go:build !linux

package hostnet

import (
	"context"
	"errors"
)

func subscribe(context.Context, func()) error {
	return errors.New("hostnet: no netlink on this system")
}
