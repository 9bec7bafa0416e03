package log

import (
	"os"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin/pkg/response"
	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	all := []response.Class{response.All}
	type want struct {
		scope, format string
		classes       []response.Class
		oneIn         uint32
	}
	for text, wants := range map[string][]want{
		"log":                        {{".", commonFormat, all, 1}},
		"log example.org":            {{"example.org.", commonFormat, all, 1}},
		"log example.org {common}":   {{"example.org.", commonFormat, all, 1}},
		"log example.org {combined}": {{"example.org.", combinedFormat, all, 1}},
		"log {combined}":             {{"{combined}.", commonFormat, all, 1}}, // as in CoreDNS
		"log example.org.\nlog example.net \"{when}\"":                     {{"example.org.", commonFormat, all, 1}, {"example.net.", "{when}", all, 1}},
		"log a.org b.org x{common}y":                                       {{"a.org.", "x" + commonFormat + "y", all, 1}, {"b.org.", "x" + commonFormat + "y", all, 1}},
		"log a.org {\nclass denial\nclass error success\n}":                {{"a.org.", commonFormat, []response.Class{response.Success, response.Denial, response.Error}, 1}},
		"log a.org b.org {\nclass denial\nsample 100\n}\nlog . \"{name}\"": {{"a.org.", commonFormat, []response.Class{response.Denial}, 100}, {"b.org.", commonFormat, []response.Class{response.Denial}, 100}, {".", "{name}", all, 1}},
		"log {\nsample 1\n}":                                               {{".", commonFormat, all, 1}},
	} {
		rules, err := parse(caddy.NewTestController("dns", text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var got []want
		for _, r := range rules {
			w := want{scope: r.scope, format: r.format, oneIn: r.oneIn}
			for c := response.All; c <= response.Error; c++ {
				if r.classes[c] {
					w.classes = append(w.classes, c)
				}
			}
			got = append(got, w)
		}
		if d := cmp.Diff(wants, got, cmp.AllowUnexported(want{})); d != "" {
			t.Errorf("%s:\n%s", text, d)
		}
	}
}

func TestErrors(t *testing.T) {
	for text, want := range map[string]string{
		"log {\nclass\n}":               "Wrong argument count",
		"log {\nclass abracadabra\n}":   `Testfile:2 - Error during parsing: "abracadabra" is no class: all, success, denial or error`,
		"log {\nunknown\n}":             "unknown property 'unknown'",
		"log {\nsample\n}":              "Wrong argument count",
		"log {\nsample 1 2\n}":          "Wrong argument count",
		"log {\nsample 0\n}":            "sample 0: want one in how many queries, 1 to 1000000",
		"log {\nsample -3\n}":           "sample -3: want one in",
		"log {\nsample 1000001\n}":      "sample 1000001: want one in",
		"log {\nsample 2\nsample 2\n}":  "sample is written twice",
		"log . \"{x}\" {\nclass all\n}": "",
	} {
		_, err := parse(caddy.NewTestController("dns", text))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestSplit(t *testing.T) {
	for format, want := range map[string][]piece{
		"":                               {{"", ""}},
		"x":                              {{"x", ""}},
		"{remote}":                       {{"", "{remote}"}, {"", ""}},
		"a{>id}b{port}{duration} {name}": {{"a", "{>id}"}, {"b", "{port}"}, {"", "{duration}"}, {" {name}", ""}},
		"{ {remote} }{{port}}":           {{"{ ", "{remote}"}, {" }{", "{port}"}, {"}", ""}},
		"{remote {id} remote}":           {{"{remote {id} remote}", ""}},
	} {
		if d := cmp.Diff(want, split(format), cmp.AllowUnexported(piece{})); d != "" {
			t.Errorf("%q:\n%s", format, d)
		}
	}
}

func TestConstant(t *testing.T) {
	for format, want := range map[string]string{
		combinedFormat:                   "",
		"{/log/type} {/log/class} {odd}": "",
		"{name} {/geoip/city}":           "log writes {/geoip/city}, which may differ for each query",
		"{/log/type}{/x}":                "log writes {/x}, which may differ for each query",
	} {
		err := (&rule{format: format}).constant()
		if got := text(err); got != want {
			t.Errorf("%q: %q, want %q", format, got, want)
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// The README names every placeholder that is cut out of a format.
func TestSlotsAreDocumented(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range slots {
		if !strings.Contains(string(readme), "`"+s+"`") {
			t.Errorf("%s is not in the README", s)
		}
	}
}
