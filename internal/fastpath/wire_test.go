package fastpath

import (
	"bytes"
	"testing"

	"github.com/miekg/dns"
)

func pack(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	p, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParse(t *testing.T) {
	base := func() *dns.Msg { return new(dns.Msg).SetQuestion("WWW.example.test.", dns.TypeAAAA) }
	opt := func(f func(*dns.OPT)) func(*dns.Msg) {
		return func(m *dns.Msg) {
			m.SetEdns0(1232, false)
			f(m.IsEdns0())
		}
	}
	for name, tc := range map[string]struct {
		edit  func(*dns.Msg)
		bytes func([]byte) []byte
		plain bool
		flags flags
		size  uint16
	}{
		"plain":         {plain: true, flags: flagRD},
		"no RD":         {edit: func(m *dns.Msg) { m.RecursionDesired = false }, plain: true},
		"AD and CD":     {edit: func(m *dns.Msg) { m.AuthenticatedData, m.CheckingDisabled = true, true }, plain: true, flags: flagRD | flagAD | flagCD},
		"OPT":           {edit: opt(func(*dns.OPT) {}), plain: true, flags: flagRD | flagEDNS, size: 1232},
		"DO":            {edit: opt(func(o *dns.OPT) { o.SetDo(); o.SetUDPSize(0) }), plain: true, flags: flagRD | flagEDNS | flagDO},
		"root":          {edit: func(m *dns.Msg) { m.Question[0].Name = "." }, plain: true, flags: flagRD},
		"option":        {edit: opt(func(o *dns.OPT) { o.Option = []dns.EDNS0{&dns.EDNS0_NSID{Code: dns.EDNS0NSID}} })},
		"version":       {edit: opt(func(o *dns.OPT) { o.SetVersion(1) })},
		"Z of OPT":      {edit: opt(func(o *dns.OPT) { o.SetZ(1) })},
		"extended":      {edit: opt(func(*dns.OPT) {}), bytes: func(p []byte) []byte { p[len(p)-6] = 1; return p }},
		"OPT elsewhere": {edit: opt(func(o *dns.OPT) { o.Hdr.Name = "a." })},
		"two OPT":       {edit: func(m *dns.Msg) { m.SetEdns0(512, false); m.Extra = append(m.Extra, dns.Copy(m.Extra[0])) }},
		"response":      {edit: func(m *dns.Msg) { m.Response = true }},
		"opcode":        {edit: func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }},
		"Z":             {edit: func(m *dns.Msg) { m.Zero = true }},
		"RA":            {edit: func(m *dns.Msg) { m.RecursionAvailable = true }},
		"RCODE":         {edit: func(m *dns.Msg) { m.Rcode = 2 }},
		"two questions": {edit: func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }},
		"an answer":     {edit: func(m *dns.Msg) { rr, _ := dns.NewRR("a. 1 IN A 192.0.2.1"); m.Answer = []dns.RR{rr} }},
		"another extra": {edit: func(m *dns.Msg) { rr, _ := dns.NewRR("a. 1 IN A 192.0.2.1"); m.Extra = []dns.RR{rr} }},
		"more behind":   {bytes: func(p []byte) []byte { return append(p, 0) }},
		"one less":      {bytes: func(p []byte) []byte { return p[:len(p)-1] }},
		"pointer":       {bytes: func(p []byte) []byte { return append(append(p[:12:12], 0xC0, 12), p[len(p)-4:]...) }},
		"counts alone":  {bytes: func(p []byte) []byte { p[11] = 1; return p }},
		"too long": {bytes: func(p []byte) []byte {
			return append(append(p[:12:12], bytes.Repeat(append([]byte{63}, make([]byte, 63)...), 4)...), 0, 0, 1, 0, 1)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m := base()
			if tc.edit != nil {
				tc.edit(m)
			}
			p := pack(t, m)
			if tc.bytes != nil {
				p = tc.bytes(p)
			}
			var q query
			if got := q.parse(p); got != tc.plain {
				t.Fatalf("plain %v: %x", got, p)
			}
			if tc.plain && (q.flags != tc.flags || q.size != tc.size || q.qtype != dns.TypeAAAA || q.qclass != dns.ClassINET) {
				t.Errorf("%+v", q)
			}
		})
	}
}

func TestKey(t *testing.T) {
	key := func(listener uint16, class uint32, edit func(*dns.Msg)) (string, query) {
		m := new(dns.Msg).SetQuestion("www.example.test.", dns.TypeA)
		edit(m)
		var q query
		if !q.parse(pack(t, m)) {
			t.Fatal("not plain")
		}
		return string(appendKey(nil, listener, class, &q)), q
	}
	seen := map[string]string{}
	for name, k := range map[string]func() (string, query){
		"first":    func() (string, query) { return key(0, 0, func(*dns.Msg) {}) },
		"listener": func() (string, query) { return key(1, 0, func(*dns.Msg) {}) },
		"class":    func() (string, query) { return key(0, 1, func(*dns.Msg) {}) },
		"RD":       func() (string, query) { return key(0, 0, func(m *dns.Msg) { m.RecursionDesired = false }) },
		"AD":       func() (string, query) { return key(0, 0, func(m *dns.Msg) { m.AuthenticatedData = true }) },
		"CD":       func() (string, query) { return key(0, 0, func(m *dns.Msg) { m.CheckingDisabled = true }) },
		"OPT":      func() (string, query) { return key(0, 0, func(m *dns.Msg) { m.SetEdns0(0, false) }) },
		"size":     func() (string, query) { return key(0, 0, func(m *dns.Msg) { m.SetEdns0(1232, false) }) },
		"size 2":   func() (string, query) { return key(0, 0, func(m *dns.Msg) { m.SetEdns0(1233, false) }) },
		"DO":       func() (string, query) { return key(0, 0, func(m *dns.Msg) { m.SetEdns0(1232, true) }) },
		"type":     func() (string, query) { return key(0, 0, func(m *dns.Msg) { m.Question[0].Qtype = 2 }) },
		"qclass":   func() (string, query) { return key(0, 0, func(m *dns.Msg) { m.Question[0].Qclass = 3 }) },
		"name": func() (string, query) {
			return key(0, 0, func(m *dns.Msg) { m.Question[0].Name = "www.example.tess." })
		},
	} {
		got, q := k()
		if other, ok := seen[got]; ok {
			t.Errorf("%s and %s have one key", name, other)
		}
		seen[got] = name
		if q.flags&flagMixed != 0 {
			t.Errorf("%s: mixed", name)
		}
	}
	low, _ := key(0, 0, func(*dns.Msg) {})
	mixed, q := key(0, 0, func(m *dns.Msg) { m.Question[0].Name = "wWw.eXample.TEST." })
	if low != mixed || q.flags&flagMixed == 0 {
		t.Error("another spelling has another key, or is not told")
	}
}

// FuzzParse holds the parser against the library's: what it calls plain, the library
// unpacks to the same and packs to the same octets.
func FuzzParse(f *testing.F) {
	for _, name := range []string{".", "a.", "Www.example.test.", "a\\000b.c\\.d.test."} {
		m := new(dns.Msg).SetQuestion(name, dns.TypeA)
		f.Add(pack(f, m))
		m.SetEdns0(1232, true)
		f.Add(pack(f, m))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		var q query
		if !q.parse(p) {
			return
		}
		m := new(dns.Msg)
		if err := m.Unpack(p); err != nil {
			t.Fatalf("the library refuses %x: %v", p, err)
		}
		if len(m.Question) != 1 || m.Question[0].Qtype != q.qtype || m.Question[0].Qclass != q.qclass || m.Opcode != dns.OpcodeQuery ||
			m.RecursionDesired != (q.flags&flagRD != 0) || m.AuthenticatedData != (q.flags&flagAD != 0) || m.CheckingDisabled != (q.flags&flagCD != 0) {
			t.Fatalf("%+v of %s", q, m)
		}
		if o := m.IsEdns0(); (o != nil) != (q.flags&flagEDNS != 0) || o != nil && (o.Do() != (q.flags&flagDO != 0) || o.UDPSize() != q.size || len(o.Option) > 0) {
			t.Fatalf("%+v of %s", q, m)
		}
		if again, err := m.Pack(); err != nil || !bytes.Equal(again, p) {
			t.Fatalf("%x is packed to %x: %v", p, again, err)
		}
	})
}

// FuzzLayout: whatever is in a reply, nothing outside of it is touched.
func FuzzLayout(f *testing.F) {
	m := new(dns.Msg).SetQuestion("www.example.test.", dns.TypeMX)
	r := new(dns.Msg).SetReply(m)
	for _, s := range []string{"www.example.test. 5 IN MX 1 mail.example.test.", "example.test. 5 IN SOA ns.test. h.example.test. 1 2 3 4 5", "www.example.test. 5 IN SRV 1 2 3 www.example.test."} {
		rr, _ := dns.NewRR(s)
		r.Answer = append(r.Answer, rr)
	}
	f.Add(pack(f, r))
	r.Compress = true
	f.Add(pack(f, r))
	name := []byte("\x03www\x07example\x04test\x00")
	f.Fuzz(func(t *testing.T, p []byte) {
		ttls, spell, ok := layout(p, name, nil, nil)
		if !ok {
			return
		}
		for _, o := range ttls {
			_ = p[o+3]
		}
		for _, s := range spell {
			rest := name[s.from:]
			if !bytes.Equal(p[s.at:int(s.at)+len(rest)], rest) {
				t.Fatalf("%d is not spelt as %q", s.at, rest)
			}
		}
	})
}
