package log

import (
	"context"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/coredns/coredns/plugin/pkg/response"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/internal/answer"
)

// handler is the plugin in one server block.
type handler struct {
	next  plugin.Handler
	rules []rule
	lines lines // of what is repeated
}

// Name implements plugin.Handler.
func (h *handler) Name() string { return pluginName }

// ServeDNS implements plugin.Handler.
func (h *handler) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	state := request.Request{W: w, Req: r}
	name := state.Name()
	if rule := h.ruleOf(name); rule != nil {
		return h.serve(ctx, rule, state)
	}
	return plugin.NextOrFailure(pluginName, h.next, ctx, w, r)
}

// serve answers and logs by the rule.
func (h *handler) serve(ctx context.Context, rule *rule, state request.Request) (int, error) {
	rec := dnstest.NewRecorder(state.W)
	rcode, err := plugin.NextOrFailure(pluginName, h.next, ctx, rec, state.Req)
	written := rec.Msg != nil
	if !written && !plugin.ClientWrite(rcode) {
		// The server will write this one.
		rec.Msg = new(dns.Msg).SetRcode(state.Req, rcode)
		rec.Rcode = rcode
		rec.Len = rec.Msg.Len()
	}
	kind, _ := response.Typify(rec.Msg, time.Now())
	class := response.Classify(kind)
	metadata.SetValueFunc(ctx, "log/type", kind.String)
	metadata.SetValueFunc(ctx, "log/class", class.String)
	if rule.selects(class) && rule.drawn() {
		line := formatter.Replace(ctx, state, rec, rule.format)
		if clog.IsJSON() {
			a := attributesOf(&state, rec)
			a.log(line, state.IP(), state.Port(), state.Req.Id, time.Since(rec.Start))
		} else {
			clog.Info(line)
		}
	}
	if written && err == nil {
		h.watch(ctx, rule, state, rec, kind)
	}
	return rcode, err
}

// watch has repetitions of the response logged, where it is to be repeated.
func (h *handler) watch(ctx context.Context, rule *rule, state request.Request, rec *dnstest.Recorder, kind response.Type) {
	verdict := answer.FromContext(ctx)
	share, ok := verdict.Shareable()
	if !ok {
		return
	}
	if then, _ := response.Typify(rec.Msg, share.Until); then != kind {
		// A signature runs out meanwhile, which changes the class.
		verdict.Veto(pluginName)
		return
	}
	if rule.selects(response.Classify(kind)) {
		n := noteOf(ctx, rule, state, rec)
		verdict.Watch(answer.Watch{To: &h.lines, Note: n, Size: n.size(), OneIn: rule.oneIn})
	}
}

// Watches implements answer.Watching.
func (h *handler) Watches() error {
	for i := range h.rules {
		if err := h.rules[i].constant(); err != nil {
			return err
		}
	}
	return nil
}
