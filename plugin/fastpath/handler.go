package fastpath

import (
	"context"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metrics"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/internal/answer"
	engine "github.com/resolverd/resolverd/internal/fastpath"
)

// observation is what the handlers note of one query that came through the engine.
type observation struct {
	server string
	block  *block // whose chain wrote the reply, nil for none that may be learnt from
	writes int
	series series
	asked  int // octets of the query
	given  int // octets of the reply as the metrics count them

	announced uint16 // size of the query's OPT, as the chain below sees it
}

type observationKey struct{}

// handler stands just above prometheus, and sees what prometheus sees.
type handler struct {
	next  plugin.Handler
	block *block
}

// Name implements plugin.Handler.
func (h *handler) Name() string { return pluginName }

// ServeDNS implements plugin.Handler.
func (h *handler) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	o, _ := ctx.Value(observationKey{}).(*observation)
	if o != nil && h.block.reason != "" {
		o.writes += 2 // a plugin may ask another block's chain from here, and write what it says
	}
	if o == nil || h.block.reason != "" {
		return plugin.NextOrFailure(pluginName, h.next, ctx, w, r)
	}
	state := request.Request{W: w, Req: r}
	o.asked = r.Len()
	if opt := r.IsEdns0(); opt != nil {
		o.announced = opt.UDPSize()
	}
	o.series = series{server: o.server, view: metrics.WithView(ctx), do: state.Do(), family: state.Family(), qtype: state.QType(), name: state.QName()}
	rcode, err := plugin.NextOrFailure(pluginName, h.next, ctx, &recorder{ResponseWriter: w, seen: o}, r)
	if err == nil && plugin.ClientWrite(rcode) && o.writes == 1 {
		o.block = h.block
		if v := answer.FromContext(ctx); len(h.block.taps) > 0 {
			if _, ok := v.Shareable(); ok {
				h.block.taps.watch(v, tapped{size: o.announced, local: w.LocalAddr()})
			}
		}
	}
	return rcode, err
}

// recorder notes the reply on its way out.
type recorder struct {
	dns.ResponseWriter
	seen *observation
}

// WriteMsg implements dns.ResponseWriter.
func (w *recorder) WriteMsg(m *dns.Msg) error {
	w.seen.writes++
	w.seen.given = m.Len()
	w.seen.series.rcode = m.Rcode
	return w.ResponseWriter.WriteMsg(m)
}

// Write implements dns.ResponseWriter. What is written so is not learnt: nobody knows
// what it says.
func (w *recorder) Write(p []byte) (int, error) {
	w.seen.writes += 2
	return w.ResponseWriter.Write(p)
}

// sink returns whom to tell of repetitions of the reply, or nil.
func (o *observation) sink() engine.Sink {
	// A second write is a question that a plugin asked inside this one.
	if o.block == nil || o.writes != 1 {
		return nil
	}
	return o.block.sink(o)
}
