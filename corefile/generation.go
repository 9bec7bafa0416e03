package corefile

import (
	"slices"
	"sync"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"

	"github.com/resolverd/resolverd/internal/resident"
	"github.com/resolverd/resolverd/plugin/horizon"
)

// blockDirective is written by the loader into each block, and by nobody else. Being
// first in the order, its setup runs for every block before any other setup does,
// whoever started the Corefile: us, or the stock `reload`.
const blockDirective = "resolverd_block"

func init() { plugin.Register(blockDirective, setupBlock) }

// generation is the Corefile whose setups run. caddy runs one at a time.
var generation struct {
	mu         sync.Mutex // guards identities
	identities []string
}

// setupBlock passes on what the loader knows of the block: its identity to the
// residents, its place among the zones to horizon. The entrance comes before all plugins.
func setupBlock(c *caddy.Controller) error {
	c.Next()
	args := c.RemainingArgs()
	if len(args) != 1 {
		return c.ArgErr()
	}
	generation.mu.Lock()
	if c.ServerBlockIndex == 0 {
		generation.identities = nil
		// caddy puts the instance into its list before it parses.
		if all := caddy.Instances(); len(all) > 0 {
			if r := running.Load(); r != nil {
				r.loads(all[len(all)-1])
			}
		}
	}
	generation.identities = append(generation.identities, args[0])
	resident.SetBlocks(slices.Clone(generation.identities))
	generation.mu.Unlock()
	horizon.Observe(c)
	config := dnsserver.GetConfig(c)
	config.AddPlugin(newEntrance(config))
	return nil
}
