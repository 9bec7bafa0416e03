package log

import (
	"log/slog"
	"strconv"
	"time"

	"github.com/coredns/coredns/plugin/pkg/dnstest"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// attributes are the fields of CoreDNS's JSON line that belong to the response.
type attributes struct {
	name, qtype, class, proto string
	opcode, asked, bufsize    int
	do                        bool
	rcode                     slog.Attr
	given                     int
}

func attributesOf(state *request.Request, rec *dnstest.Recorder) *attributes {
	a := &attributes{
		name: state.Name(), qtype: state.Type(), class: state.Class(), proto: state.Proto(),
		opcode: state.Req.Opcode, asked: state.Len(), bufsize: state.Size(), do: state.Do(),
		rcode: slog.Any("rcode", nil), given: rec.Len,
	}
	if rec.Msg != nil {
		text := dns.RcodeToString[rec.Rcode]
		if text == "" {
			text = strconv.Itoa(rec.Rcode)
		}
		a.rcode = slog.String("rcode", text)
	}
	return a
}

// log writes one line.
func (a *attributes) log(line, ip, port string, id uint16, took time.Duration) {
	n, _ := strconv.Atoi(port)
	clog.InfoAttrs(line,
		slog.String("plugin", pluginName),
		slog.String("client_ip", ip),
		slog.Int("client_port", n),
		slog.String("qname", a.name),
		slog.String("qtype", a.qtype),
		slog.String("qclass", a.class),
		slog.String("protocol", a.proto),
		slog.Int("id", int(id)),
		slog.Int("opcode", a.opcode),
		slog.Int("request_size", a.asked),
		slog.Bool("dnssec_ok", a.do),
		slog.Int("bufsize", a.bufsize),
		a.rcode,
		slog.Int("response_size", a.given),
		slog.Float64("duration_seconds", took.Seconds()),
	)
}
