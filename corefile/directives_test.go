package corefile

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/google/go-cmp/cmp"
)

// stockOrder reads the order of the CoreDNS that this module builds with.
func stockOrder(t *testing.T) []string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/coredns/coredns").Output()
	if err != nil {
		t.Fatal(err)
	}
	src, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "core", "dnsserver", "zdirectives.go"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range regexp.MustCompile(`(?m)^\t"(\w+)",$`).FindAllStringSubmatch(string(src), -1) {
		out = append(out, m[1])
	}
	if len(out) < 50 {
		t.Fatalf("read %d directives of stock", len(out))
	}
	return out
}

func TestStockOrderIsKept(t *testing.T) {
	stock := stockOrder(t)
	carried := slices.DeleteFunc(slices.Clone(stock), func(d string) bool { return !slices.Contains(directives, d) })
	ours := slices.DeleteFunc(slices.Clone(directives), func(d string) bool { return !slices.Contains(stock, d) })
	if d := cmp.Diff(carried, ours); d != "" {
		t.Errorf("the stock plugins stand in another order (-stock +ours):\n%s", d)
	}
	for _, d := range stock {
		_, named := elsewhere[d]
		if slices.Contains(directives, d) == named {
			t.Errorf("stock's %q is carried and listed as left out, or neither", d)
		}
	}
}

func TestOurPlaces(t *testing.T) {
	for _, o := range []struct{ above, below, why string }{
		{blockDirective, "root", "it tells the setups of their block"},
		{"bind", "horizon", "the plan needs the addresses"},
		{"prometheus", "horizon", "refusals are counted"},
		{"log", "horizon", "and logged"},
		{"dnstap", "horizon", "and seen"},
		{"dnstap", "rrl", "what is dropped is counted, logged and seen"},
		{"rrl", "horizon", "refusals are limited"},
		{"rrl", "any", "as is all that answers"},
		{"rrl", "cache", "and what is cached is whole"},
		{"horizon", "local", "nothing answers before it"},
		{"horizon", "rewrite", "it selects by the name that was asked"},
		{"rewrite", "acl", "the final name is what is admitted (CVE-2026-26017)"},
		{"acl", "registry", "what is blocked is not answered"},
		{"registry", "cache", "its answers differ by client, and change within a TTL"},
		{"rewrite", "registry", "a rewritten name is looked up"},
		{"registry", "transfer", "transfer asks it for the zone"},
		{"hosts", "specialuse", "who writes localhost into hosts is heard"},
		{"file", "specialuse", "as who serves a reverse zone"},
		{"etcd", "specialuse", ""},
		{"specialuse", "forward", "it keeps names from leaving"},
		{"cache", "consul", "Consul's answers are cached"},
		{"consul", "forward", "the more special route comes first"},
	} {
		if a, b := slices.Index(directives, o.above), slices.Index(directives, o.below); a < 0 || b < 0 || a > b {
			t.Errorf("%s (%d) is not above %s (%d): %s", o.above, a, o.below, b, o.why)
		}
	}
}

func TestListAndBuildAgree(t *testing.T) {
	var built []string
	for _, p := range caddy.ListPlugins()["others"] {
		built = append(built, strings.TrimPrefix(p, "dns."))
	}
	slices.Sort(built)
	listed := slices.Sorted(slices.Values(directives))
	if d := cmp.Diff(listed, built); d != "" {
		t.Errorf("-directives +registered:\n%s", d)
	}
	if slices.Contains(Directives(), blockDirective) {
		t.Errorf("%s is nobody's to write", blockDirective)
	}
}
