package corefile

import (
	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin"

	"github.com/resolverd/resolverd/plugin/horizon"
)

// blockDirective is written by the loader into each block, and by nobody else. Being
// first in the order, its setup runs before every other, and tells what is about to be
// built.
const blockDirective = "resolverd_block"

func init() { plugin.Register(blockDirective, setupBlock) }

func setupBlock(c *caddy.Controller) error {
	c.Next()
	if args := c.RemainingArgs(); len(args) != 1 {
		return c.ArgErr()
	}
	horizon.Observe(c)
	return nil
}
