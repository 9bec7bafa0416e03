package main

import (
	"regexp"
	"testing"

	"github.com/resolverd/resolverd/cmd/resolverd/settings"
	"github.com/resolverd/resolverd/corefile"
)

// TestCorefileVariables holds the embedded Corefile's variables against those that
// settings does not warn of.
func TestCorefileVariables(t *testing.T) {
	for _, m := range regexp.MustCompile(`\{\$([A-Z_]+)`).FindAllStringSubmatch(string(corefile.Default()), -1) {
		l, err := settings.Load(settings.Source{Environ: []string{m[1] + "=x"}})
		if err != nil {
			t.Fatal(err)
		}
		if len(l.Warnings) != 0 {
			t.Errorf("%s: %q", m[1], l.Warnings)
		}
	}
}

func TestPortOfEmbeddedCorefile(t *testing.T) {
	for _, tt := range []struct {
		setting uint16
		env     string
		want    string
	}{
		{53, "", "53"},
		{53, "5300", "5300"},
		{5301, "5300", "5301"},
		{53, "tcp://10.0.0.1:53", "53"},
		{53, "0", "53"},
		{53, "70000", "53"},
	} {
		t.Setenv(portVariable, tt.env)
		s := settings.Default()
		s.DNSPort = tt.setting
		if got := corefileSource(s).Vars[portVariable]; got != tt.want {
			t.Errorf("dns_port %d and %s=%q give %s, want %s", tt.setting, portVariable, tt.env, got, tt.want)
		}
	}
}
