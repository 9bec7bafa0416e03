package forward

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// options lists the EDNS option codes of m, or nil without an OPT.
func options(m *dns.Msg) []uint16 {
	opt := m.IsEdns0()
	if opt == nil {
		return nil
	}
	out := []uint16{}
	for _, o := range opt.Option {
		out = append(out, o.Option())
	}
	return out
}

func withOptions(do bool, o ...dns.EDNS0) func(*dns.Msg) {
	return func(m *dns.Msg) {
		m.SetEdns0(4096, do)
		m.IsEdns0().Option = o
	}
}

var (
	cookie    = &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"}
	keepalive = &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE}
	padding   = &dns.EDNS0_PADDING{Padding: []byte("xxxx")}
	subnet    = &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: []byte{192, 0, 2, 0}}
	private   = &dns.EDNS0_LOCAL{Code: 65001, Data: []byte("x")}
	ede       = &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeDNSBogus}
)

func TestOutgoing(t *testing.T) {
	tests := []struct {
		name    string
		query   func(*dns.Msg)
		flags   string // of the query sent
		options []uint16
	}{
		{"plain", func(*dns.Msg) {}, "rd", []uint16{}},
		{"no recursion", func(m *dns.Msg) { m.RecursionDesired = false }, "", []uint16{}},
		{"AD asked for", func(m *dns.Msg) { m.AuthenticatedData = true }, "rd ad", []uint16{}},
		{"CD", func(m *dns.Msg) { m.CheckingDisabled = true }, "rd cd", []uint16{}},
		{"DO", withOptions(true), "rd do", []uint16{}},
		{"hop-by-hop options stay here", withOptions(false, cookie, keepalive, padding), "rd", []uint16{}},
		{"others go on", withOptions(true, subnet, cookie, private), "rd do", []uint16{dns.EDNS0SUBNET, 65001}},
		{"flags of a response are not sent", func(m *dns.Msg) { m.Authoritative, m.RecursionAvailable, m.Truncated = true, true, true }, "rd", []uint16{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := new(dns.Msg).SetQuestion("wWw.example.org.", dns.TypeA)
			tt.query(req)
			before := req.Copy()
			got, err := outgoing(req, 1232)
			if err != nil {
				t.Fatal(err)
			}
			var flags []string
			for _, f := range []struct {
				set  bool
				name string
			}{
				{got.RecursionDesired, "rd"},
				{got.AuthenticatedData, "ad"},
				{got.CheckingDisabled, "cd"},
				{got.IsEdns0().Do(), "do"},
				{got.Authoritative, "aa"},
				{got.RecursionAvailable, "ra"},
				{got.Truncated, "tc"},
				{got.Response, "qr"},
			} {
				if f.set {
					flags = append(flags, f.name)
				}
			}
			if s := strings.Join(flags, " "); s != tt.flags {
				t.Errorf("flags %q, want %q", s, tt.flags)
			}
			if diff := cmp.Diff(tt.options, options(got)); diff != "" {
				t.Errorf("options (-want +got):\n%s", diff)
			}
			if got.Question[0].Name != "wWw.example.org." || got.Id != 0 || got.IsEdns0().UDPSize() != 1232 {
				t.Errorf("sent %v", got)
			}
			if before.String() != req.String() {
				t.Errorf("the client's query was changed:\n%v", req)
			}
		})
	}
}

func TestOutgoingRefuses(t *testing.T) {
	tests := map[string]func(*dns.Msg){
		"no question":   func(m *dns.Msg) { m.Question = nil },
		"two questions": func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) },
		"an update":     func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate },
		"a notify":      func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify },
		"a response":    func(m *dns.Msg) { m.Response = true },
		"zone transfer": func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAXFR },
		"IXFR":          func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeIXFR },
		"the type OPT":  func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeOPT },
		"the type TSIG": func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeTSIG },
	}
	for name, f := range tests {
		t.Run(name, func(t *testing.T) {
			m := new(dns.Msg).SetQuestion("example.org.", dns.TypeA)
			f(m)
			if _, err := outgoing(m, 1232); !errors.Is(err, ErrUnsupported) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestSignedQueryIsSentAsItIs(t *testing.T) {
	m := new(dns.Msg).SetQuestion("example.org.", dns.TypeA)
	m.SetEdns0(4096, true)
	m.SetTsig("key.", dns.HmacSHA256, 300, 1700000000)
	got, err := outgoing(m, 1232)
	if err != nil {
		t.Fatal(err)
	}
	if got.IsTsig() == nil || got.IsEdns0().UDPSize() != 4096 {
		t.Errorf("sent %v", got)
	}
}

func TestFinish(t *testing.T) {
	tests := []struct {
		name    string
		query   func(*dns.Msg)
		reply   func(*dns.Msg)
		ad      bool
		rcode   int
		options []uint16 // nil: no OPT
	}{
		{"plain", nil, nil, false, 0, nil},
		{"AD was not asked for", nil, func(m *dns.Msg) { m.AuthenticatedData = true }, false, 0, nil},
		{"AD was asked for by AD", func(m *dns.Msg) { m.AuthenticatedData = true }, func(m *dns.Msg) { m.AuthenticatedData = true }, true, 0, nil},
		{"AD was asked for by DO", withOptions(true), func(m *dns.Msg) { m.AuthenticatedData = true }, true, 0, nil},
		{"EDNS alone does not ask for AD", withOptions(false), func(m *dns.Msg) { m.AuthenticatedData = true }, false, 0, nil},
		{"no OPT for a client without", nil, withOptions(true, ede), false, 0, nil},
		{"an error is explained to a client with EDNS", withOptions(false), withOptions(false, cookie, ede, padding), false, 0, []uint16{dns.EDNS0EDE}},
		{"a subnet nobody asked about", withOptions(false), withOptions(false, subnet), false, 0, []uint16{}},
		{"a subnet that was asked about", withOptions(false, subnet), withOptions(false, subnet), false, 0, []uint16{dns.EDNS0SUBNET}},
		{"BADVERS is ours, not the client's", withOptions(false), func(m *dns.Msg) { m.SetEdns0(1232, false); m.Rcode = dns.RcodeBadVers }, false, dns.RcodeServerFailure, []uint16{}},
		{"two OPT records", withOptions(false), func(m *dns.Msg) { withOptions(false, ede)(m); m.Extra = append(m.Extra, m.Extra[0]) }, false, 0, []uint16{dns.EDNS0EDE}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := new(dns.Msg).SetQuestion("eXample.org.", dns.TypeA)
			reply := new(dns.Msg).SetReply(new(dns.Msg).SetQuestion("example.org.", dns.TypeA))
			if tt.query != nil {
				tt.query(req)
			}
			if tt.reply != nil {
				tt.reply(reply)
			}
			reply.Zero = true
			finish(req, reply)
			if reply.Zero {
				t.Error("the upstream's Z bit went on")
			}
			if reply.Id != req.Id || reply.Question[0] != req.Question[0] {
				t.Errorf("the client gets id %d, question %v", reply.Id, reply.Question)
			}
			if reply.AuthenticatedData != tt.ad || reply.Rcode != tt.rcode {
				t.Errorf("AD %t RCODE %d, want %t %d", reply.AuthenticatedData, reply.Rcode, tt.ad, tt.rcode)
			}
			if diff := cmp.Diff(tt.options, options(reply)); diff != "" {
				t.Errorf("options (-want +got):\n%s", diff)
			}
			if n := len(reply.Extra); n > 1 {
				t.Errorf("%d records in ADDITIONAL", n)
			}
			if _, err := reply.Pack(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOPTComesLast(t *testing.T) {
	req := new(dns.Msg).SetQuestion("example.org.", dns.TypeSRV)
	req.SetEdns0(1232, false)
	reply := new(dns.Msg).SetReply(req)
	reply.SetEdns0(1232, false)
	reply.Extra = append(reply.Extra, answerA(req).Answer[0])
	finish(req, reply)
	if len(reply.Extra) != 2 || reply.Extra[0].Header().Rrtype != dns.TypeA || reply.Extra[1].Header().Rrtype != dns.TypeOPT {
		t.Errorf("ADDITIONAL is %v", reply.Extra)
	}
}

func TestPlainDNS(t *testing.T) {
	m := new(dns.Msg).SetQuestion("example.org.", dns.TypeA)
	out, err := outgoing(m, 1232)
	if err != nil {
		t.Fatal(err)
	}
	wire, err := pack(out)
	if err != nil {
		t.Fatal(err)
	}
	bare := new(dns.Msg)
	if err := bare.Unpack(withoutOPT(wire)); err != nil || len(bare.Question) != 1 || len(bare.Extra) > 0 {
		t.Errorf("without EDNS: %v, %v", bare, err)
	}
	if err := out.Unpack(wire); err != nil || out.IsEdns0() == nil {
		t.Error("the original lost its OPT")
	}
	for _, f := range []func(*dns.Msg){withOptions(true), withOptions(false, private)} {
		m := new(dns.Msg).SetQuestion("example.org.", dns.TypeA)
		f(m)
		out, err := outgoing(m, 1232)
		if err != nil {
			t.Fatal(err)
		}
		wire, err := pack(out)
		if err != nil {
			t.Fatal(err)
		}
		if withoutOPT(wire) != nil {
			t.Errorf("what the client asked for would be lost: %v", options(out))
		}
	}
}

func TestHopByHop(t *testing.T) {
	var hop []uint16
	for code := range uint16(20) {
		if hopByHop(code) {
			hop = append(hop, code)
		}
	}
	if !slices.Equal(hop, []uint16{10, 11, 12}) {
		t.Errorf("hop-by-hop: %v", hop)
	}
}
