package cache

import (
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestBounds(t *testing.T) {
	const s = time.Second
	terms, err := DefaultTerms().WithBounds([]Bound{
		{Zone: "example.", Min: 10 * s, Max: 20 * s},
		{Zone: "example.", Type: dns.TypeA, Min: 30 * s, Max: 40 * s},
		{Zone: "deep.Example.", Min: 0, Max: 50 * s},
		{Zone: ".", Type: dns.TypeTXT, Min: 60 * s, Max: 70 * s},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name        string
		qtype       uint16
		denial      bool
		least, most time.Duration
	}{
		{"www.example.", dns.TypeAAAA, false, 10 * s, 20 * s},
		{"WWW.example.", dns.TypeA, false, 30 * s, 40 * s},
		{"www.example.", dns.TypeA, true, 30 * s, 40 * s},
		{"example.", dns.TypeMX, false, 10 * s, 20 * s},
		{"deep.example.", dns.TypeA, false, 0, 50 * s},
		{"a.deep.example.", dns.TypeTXT, true, 0, 50 * s},
		{"notexample.", dns.TypeA, false, DefaultMinTTL, DefaultMaxTTL},
		{"other.", dns.TypeTXT, false, 60 * s, 70 * s},
		{"other.", dns.TypeA, true, DefaultMinTTL, DefaultMaxDenialTTL},
		{".", dns.TypeNS, false, DefaultMinTTL, DefaultMaxTTL},
	} {
		least, most := terms.ofQuestion(dns.Question{Name: c.name, Qtype: c.qtype}, c.denial)
		if least != c.least || most != c.most {
			t.Errorf("%s %s: %s to %s, want %s to %s", c.name, dns.Type(c.qtype), least, most, c.least, c.most)
		}
		bare := terms.NoMinimum()
		if least, most := bare.ofQuestion(dns.Question{Name: c.name, Qtype: c.qtype}, c.denial); least != 0 || most != c.most {
			t.Errorf("%s without a minimum: %s to %s", c.name, least, most)
		}
	}
	if least, _ := terms.ofQuestion(dns.Question{Name: "www.example.", Qtype: dns.TypeA}, false); least != 30*s {
		t.Error("terms without a minimum changed those that they came from")
	}
	for name, b := range map[string][]Bound{
		"least above most": {{Zone: ".", Min: 2 * s, Max: s}},
		"no most":          {{Zone: "."}},
		"twice":            {{Zone: "a.", Max: s}, {Zone: "A.", Max: 2 * s}},
		"no name":          {{Zone: "a..b.", Max: s}},
	} {
		if _, err := DefaultTerms().WithBounds(b); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
