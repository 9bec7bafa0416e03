package log

import (
	"context"
	"net"
	"slices"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/pkg/response"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/internal/answer"
)

// witness writes the lines of queries that never became messages. It is an answer.Watcher.
type witness struct {
	*handler
	local net.Addr
}

// Witness implements answer.Witness. Which stanza it is, and whether it takes the
// response, is known when the name and the response are.
func (h *handler) Witness(local net.Addr) answer.Watch {
	return answer.Watch{To: &witness{h, local}, Packets: true}
}

// Repeated implements answer.Watcher: the line is that of a response whose repetition is
// told at once.
func (w *witness) Repeated(_ any, r *answer.Repetition) {
	req, res := new(dns.Msg), new(dns.Msg)
	if req.Unpack(r.Query) != nil || res.Unpack(r.Response) != nil {
		return // which the fast path has read and written itself
	}
	// The server puts the client's OPT in behind us.
	res.Extra = slices.DeleteFunc(res.Extra, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeOPT })
	state := request.Request{W: &ends{client: net.UDPAddrFromAddrPort(r.Client), local: w.local}, Req: req}
	rule := w.ruleOf(state.Name())
	if rule == nil {
		return
	}
	kind, _ := response.Typify(res, time.Now())
	if !rule.selects(response.Classify(kind)) || !rule.drawn() {
		return
	}
	rec := &dnstest.Recorder{ResponseWriter: state.W, Rcode: res.Rcode, Len: res.Len(), Msg: res, Start: r.At}
	w.lines.Repeated(noteOf(context.Background(), rule, state, rec), r)
}

// Flush implements answer.Watcher.
func (w *witness) Flush() { w.lines.Flush() }

// ruleOf returns the first rule whose names hold the name, or nil.
func (h *handler) ruleOf(name string) *rule {
	for i := range h.rules {
		if plugin.Name(h.rules[i].scope).Matches(name) {
			return &h.rules[i]
		}
	}
	return nil
}

// ends is a dns.ResponseWriter for those who only ask it for its addresses.
type ends struct {
	dns.ResponseWriter
	client, local net.Addr
}

// RemoteAddr implements dns.ResponseWriter.
func (e *ends) RemoteAddr() net.Addr { return e.client }

// LocalAddr implements dns.ResponseWriter.
func (e *ends) LocalAddr() net.Addr { return e.local }
