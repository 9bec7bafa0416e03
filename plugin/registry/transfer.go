package registry

import (
	"context"

	"github.com/coredns/coredns/plugin/transfer"
	"github.com/miekg/dns"
	"github.com/resolverd/resolverd/registry/names"
)

var _ transfer.Transferer = (*Handler)(nil) //nolint:misspell // the name that CoreDNS gave it

// Transfer implements what the plugin transfer asks for: the whole zone as it is in one
// snapshot, or its SOA alone where the secondary's serial is not older (RFC 1995, section
// 2; the comparison is RFC 1982's). The channel is read to its end by the plugin
// transfer, which ends the goroutine behind it.
func (h *Handler) Transfer(origin string, serial uint32) (<-chan []dns.RR, error) {
	var z *zone
	for _, o := range h.zones {
		if o.Origin == origin {
			z = o
		}
	}
	if z == nil || !h.view.Loaded() {
		return nil, transfer.ErrNotAuthoritative
	}
	snap := h.view.Load()
	ch := make(chan []dns.RR)
	if now := names.Serial(snap.Serial); serial != 0 && int32(serial-now) >= 0 {
		go func() {
			ch <- []dns.RR{z.SOA(snap)}
			close(ch)
		}()
		return ch, nil
	}
	go func() {
		for rrs := range z.Zone.Transfer(snap, h.glue) {
			ch <- rrs
		}
		close(ch)
	}()
	return ch, nil
}

type handedOver struct{}

// handOver gives a request for a zone transfer to the plugin transfer, which stands
// below us in the chain and asks Transfer for the zone. Where it is missing, or does
// not know the zone and passed the request on to us, that is refused; Consul knows no
// transfers at all.
func (h *Handler) handOver(ctx context.Context, w dns.ResponseWriter, r *dns.Msg, z *zone) (int, error) {
	switch {
	case h.axfr != nil && ctx.Value(handedOver{}) == nil:
		return h.axfr.ServeDNS(context.WithValue(ctx, handedOver{}, true), w, r)
	case z.Consul:
		return dns.RcodeNotImplemented, nil
	}
	return dns.RcodeRefused, nil
}
