package forward

import (
	"context"
	"slices"
	"strings"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"
)

// noData stands among RCODEs for NOERROR without an answer.
const noData = -1

// link is one `chain`: after these RCODEs, for names in these zones, the next plugin is
// asked.
type link struct {
	codes []int
	zones []string // none: all
}

// holds says whether the link leads on from a reply about name.
func (l link) holds(name string, code int) bool {
	return slices.Contains(l.codes, code) && (len(l.zones) == 0 || plugin.Zones(l.zones).Matches(name) != "")
}

// parseLink parses what follows `chain`: RCODEs, and the zones from the first word on
// that is none. A denial is an answer, so that it leads on only where zones are named.
func parseLink(c *caddy.Controller) (link, error) {
	var l link
	args := c.RemainingArgs()
	for len(args) > 0 {
		if strings.EqualFold(args[0], "NODATA") {
			l.codes = append(l.codes, noData)
		} else if code, ok := dns.StringToRcode[strings.ToUpper(args[0])]; ok {
			l.codes = append(l.codes, code)
		} else {
			break
		}
		args = args[1:]
	}
	if len(l.codes) == 0 {
		return l, c.ArgErr()
	}
	if slices.Contains(l.codes, dns.RcodeSuccess) {
		return l, c.Err("NoError cannot be used in chain; NODATA is NoError without an answer")
	}
	for _, z := range args {
		zones := plugin.Host(z).NormalizeExact()
		if len(zones) == 0 {
			return l, c.Errf("chain: neither an RCODE nor a zone: '%s'", z)
		}
		l.zones = append(l.zones, zones...)
	}
	if len(l.zones) == 0 && (slices.Contains(l.codes, dns.RcodeNameError) || slices.Contains(l.codes, noData)) {
		return l, c.Err("chain: NXDOMAIN and NODATA need the zones that they lead on for; '.' is all")
	}
	return l, nil
}

// chained asks the next plugin where a link holds for a reply with this RCODE. It says
// false if nothing was written: no link holds, or nobody further on answered.
func (f *Forward) chained(ctx context.Context, w dns.ResponseWriter, r *dns.Msg, name string, rcode int, empty bool) (done bool, code int, err error) {
	if f.Next == nil {
		return false, 0, nil
	}
	if rcode == dns.RcodeSuccess && empty {
		rcode = noData
	}
	if !slices.ContainsFunc(f.links, func(l link) bool { return l.holds(name, rcode) }) {
		return false, 0, nil
	}
	code, err = plugin.NextOrFailure(f.Name(), f.Next, ctx, w, r)
	if !plugin.ClientWrite(code) {
		return false, 0, nil
	}
	metrics.chained.Inc()
	return true, code, err
}
