package answer

import "github.com/miekg/dns"

// maxEDEText bounds EXTRA-TEXT in octets, so that an explanation never costs an answer
// its place in the packet.
const maxEDEText = 120

// Explain attaches an Extended DNS Error (RFC 8914) to resp where the query req
// carried an OPT record, and does nothing otherwise: RFC 6891, section 7 forbids an
// OPT in a response to a query without one. code is one of dns.ExtendedErrorCode*;
// text, cut at 120 octets, is for a person and must hold no secret. An OPT that resp
// already has is extended, and an EDE of the same code is not repeated.
func Explain(req, resp *dns.Msg, code uint16, text string) {
	asked := req.IsEdns0()
	if asked == nil {
		return
	}
	opt := resp.IsEdns0()
	if opt == nil {
		resp.SetEdns0(asked.UDPSize(), asked.Do())
		opt = resp.IsEdns0()
	}
	for _, o := range opt.Option {
		if e, ok := o.(*dns.EDNS0_EDE); ok && e.InfoCode == code {
			return
		}
	}
	if len(text) > maxEDEText {
		text = text[:maxEDEText]
	}
	opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: code, ExtraText: text})
}

// Servfail returns a SERVFAIL response to req with an Extended DNS Error, as
// [Explain] attaches it.
func Servfail(req *dns.Msg, code uint16, text string) *dns.Msg {
	resp := new(dns.Msg)
	resp.SetRcode(req, dns.RcodeServerFailure)
	resp.RecursionAvailable = true
	Explain(req, resp, code, text)
	return resp
}
