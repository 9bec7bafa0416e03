package horizon

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
)

const pluginName = "horizon"

func init() {
	plugin.Register(pluginName, setup)
	caddy.RegisterParsingCallback("dns", pluginName, finish)
}

// reading is what was read so far of one Corefile.
type reading struct {
	blocks map[int]*observed // by index in the file
	defs   map[string]*Set
	owners map[netip.Prefix]*Set
	uses   []nameUse
}

type observed struct {
	block   block
	configs []*dnsserver.Config // one a zone; the first holds what `bind` said
	named   []string            // horizons, in the order of the lines
}

// nameUse is a horizon used by its name alone, with the error that is due if nobody
// defines it.
type nameUse struct {
	name    string
	missing error
}

var (
	mu       sync.Mutex // guards readings
	readings = map[caddy.Context]*reading{}
)

// Observe shows a server block to the plugin, before any setup of its Corefile; the
// loader calls it for every block. Without it a Corefile may not name a horizon.
func Observe(c *caddy.Controller) {
	mu.Lock()
	defer mu.Unlock()
	r := readings[c.Context()]
	if r == nil || c.ServerBlockIndex == 0 {
		// A Corefile that was refused before finish leaves its reading behind: there is no
		// hook for that. It goes now.
		clear(readings)
		r = &reading{blocks: map[int]*observed{}, defs: map[string]*Set{}, owners: map[netip.Prefix]*Set{}}
		readings[c.Context()] = r
	}
	o := &observed{}
	each := *c
	for i := range c.ServerBlockKeys {
		each.ServerBlockKeyIndex = i
		o.configs = append(o.configs, dnsserver.GetConfig(&each))
	}
	r.blocks[c.ServerBlockIndex] = o
}

func setup(c *caddy.Controller) error {
	mu.Lock()
	defer mu.Unlock()
	r := readings[c.Context()]
	if r == nil || r.blocks[c.ServerBlockIndex] == nil {
		return plugin.Error(pluginName, errors.New("this Corefile did not come through resolverd's loader"))
	}
	if err := r.parse(c, r.blocks[c.ServerBlockIndex]); err != nil {
		delete(readings, c.Context())
		return plugin.Error(pluginName, err)
	}
	return nil
}

// parse reads the block's lines: `horizon NAME PREFIX...` defines and uses, `horizon
// NAME` uses.
func (r *reading) parse(c *caddy.Controller, o *observed) error {
	for c.Next() {
		place := fmt.Sprintf("%s:%d", c.File(), c.Line())
		args := c.RemainingArgs()
		if len(args) == 0 {
			return c.ArgErr()
		}
		name := args[0]
		if !validName(name) {
			if _, err := ParsePrefix(name); err == nil {
				return c.Errf("the name is missing before %s", name)
			}
			return c.Errf("%q is no name: letters, digits, - and _, at most %d", name, maxName)
		}
		if slices.Contains(o.named, name) {
			return c.Errf("%s is named twice in this block", name)
		}
		o.named = append(o.named, name)
		if c.NextBlock() {
			return c.Errf("takes no block, but %q", c.Val())
		}
		if len(args) == 1 {
			r.uses = append(r.uses, nameUse{name, c.Errf("%s is defined nowhere: one line in the file must be `horizon %s PREFIX...`", name, name)})
			continue
		}
		if d := r.defs[name]; d != nil {
			return c.Errf("%s is defined already at %s: here its name alone is enough", name, d.place)
		}
		s := &Set{Name: name, place: place}
		for _, a := range args[1:] {
			p, err := ParsePrefix(a)
			if err != nil {
				return c.Err(err.Error())
			}
			if d := r.owners[p]; d != nil && d != s {
				return c.Errf("%s belongs to horizon %s already, at %s", p, d.Name, d.place)
			}
			r.owners[p] = s
			s.Prefixes = append(s.Prefixes, p)
		}
		r.defs[name] = s
	}
	return nil
}

// finish runs when the horizon lines of all blocks are read, and `bind` before them. It
// builds the plan and puts it into the servers' way.
func finish(ctx caddy.Context) error {
	mu.Lock()
	r := readings[ctx]
	delete(readings, ctx)
	mu.Unlock()
	if r == nil || len(r.defs) == 0 && len(r.uses) == 0 {
		return nil
	}
	for _, u := range r.uses {
		if r.defs[u.name] == nil {
			return plugin.Error(pluginName, u.missing)
		}
	}
	p := &plan{servers: map[string]map[string]*group{}}
	for i := range len(r.blocks) {
		o := r.blocks[i]
		for _, n := range o.named {
			o.block.sets = append(o.block.sets, r.defs[n])
		}
		for _, cfg := range o.configs {
			addrs, err := listeners(o.configs[0].ListenHosts, cfg)
			if err != nil {
				return plugin.Error(pluginName, err)
			}
			for _, a := range addrs {
				p.group(a, cfg.Zone).join(&o.block)
			}
		}
	}
	for i := range len(r.blocks) {
		o := r.blocks[i]
		for _, cfg := range o.configs {
			addrs, err := listeners(o.configs[0].ListenHosts, cfg)
			if err != nil {
				return plugin.Error(pluginName, err)
			}
			if slices.ContainsFunc(addrs, func(a string) bool { return p.group(a, cfg.Zone).parted() }) {
				cfg.FilterFuncs = append(cfg.FilterFuncs, p.filter(&o.block, cfg.Zone))
			}
		}
		first := o.configs[0]
		first.AddPlugin(func(next plugin.Handler) plugin.Handler {
			g := &guard{next: next, plan: p, block: &o.block, config: first, name: strings.Join(o.named, ",")}
			if g.name == "" {
				return g
			}
			return view{g}
		})
	}
	registerMetrics()
	return nil
}

// listeners are the addresses of the servers that will serve the zone, as dnsserver
// names them.
func listeners(hosts []string, cfg *dnsserver.Config) ([]string, error) {
	var out []string
	for _, h := range hosts {
		a, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(h, cfg.Port))
		if err != nil {
			return nil, err
		}
		out = append(out, cfg.Transport+"://"+a.String())
	}
	return out, nil
}
