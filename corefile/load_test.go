package corefile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coredns/caddy/caddyfile"
	"github.com/google/go-cmp/cmp"
)

// tree writes files and returns the directory; "Corefile" is the main one.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// complaint is an error as the command prints it, without the directory.
func complaint(err error, dir string) string {
	if err == nil {
		return ""
	}
	out := err.Error()
	var h interface{ Hint() string }
	if errors.As(err, &h) && h.Hint() != "" {
		out += "\nhint: " + h.Hint()
	}
	return strings.ReplaceAll(out, dir+"/", "")
}

func TestRefused(t *testing.T) {
	t.Setenv("CRLF", "a\nb")
	for name, tc := range map[string]struct {
		files map[string]string
		want  string
	}{
		"stock plugin left out": {
			map[string]string{"Corefile": ".:53 {\n    errors\n    kubernetes cluster.local\n}\n"},
			"Corefile:3: plugin \"kubernetes\" of stock CoreDNS is not in this build\nhint: kubernetes: it answers from a Kubernetes API; run stock CoreDNS beside and `forward` the cluster's zone to it",
		},
		"external plugin": {
			map[string]string{"Corefile": ".:53 {\n    alternate original NXDOMAIN . 192.0.2.1\n}\n"},
			"Corefile:2: plugin \"alternate\" is not in this build, nor in stock CoreDNS\nhint: alternate: `forward` has failover",
		},
		"external plugin without a substitute": {
			map[string]string{"Corefile": ".:53 {\n    redis\n}\n"},
			"Corefile:2: plugin \"redis\" is not in this build, nor in stock CoreDNS\nhint: redis: an external plugin, see https://coredns.io/explugins",
		},
		"typo": {
			map[string]string{"Corefile": ".:53 {\n    fowrard . 192.0.2.1\n}\n"},
			"Corefile:2: unknown directive \"fowrard\"\nhint: did you mean \"forward\"?",
		},
		"all of them at once": {
			map[string]string{"Corefile": ".:53 {\n    cahce\n    fliter\n}\nb:53 {\n    prometheuss\n}\n"},
			"Corefile:2: unknown directive \"cahce\"\nCorefile:3: unknown directive \"fliter\"\nCorefile:6: unknown directive \"prometheuss\"\n" +
				"hint: did you mean \"cache\"?\ndid you mean \"file\"?\ndid you mean \"prometheus\"?",
		},
		"nonsense": {
			map[string]string{"Corefile": ".:53 {\n    abracadabra\n}\n"},
			"Corefile:2: unknown directive \"abracadabra\"\nhint: `resolverd version --json` lists the plugins of this build",
		},
		"ours alone": {
			map[string]string{"Corefile": ".:53 {\n    resolverd_block x\n}\n"},
			"Corefile:2: unknown directive \"resolverd_block\"\nhint: `resolverd version --json` lists the plugins of this build",
		},
		"in an imported file": {
			map[string]string{"Corefile": ".:53 {\n    import more\n}\n", "more": "errors\n\nlgo\n"},
			"more:3: unknown directive \"lgo\"\nhint: did you mean \"log\"?",
		},
		"in a snippet": {
			map[string]string{"Corefile": "(s) {\n    errors\n    lgo\n}\n.:53 {\n    import s\n}\na.test {\n    import s\n}\n"},
			"Corefile:3: unknown directive \"lgo\"\nhint: did you mean \"log\"?",
		},
		"unclosed": {
			map[string]string{"Corefile": ".:53 {\n    errors\n"},
			"Corefile:2: Unexpected token 'errors', expecting '}'\nhint: a { above is not closed",
		},
		"missing import": {
			map[string]string{"Corefile": ".:53 {\n    import nowhere\n}\n"},
			"Corefile:2: File to import not found: nowhere",
		},
		"empty": {
			map[string]string{"Corefile": "# nothing\n"},
			"Corefile:1: no server block\nhint: the least that answers is `. { forward . /etc/resolv.conf }`, each part on its own line",
		},
		"no file": {
			nil,
			"Corefile: no such file or directory\nhint: give another with --corefile, or none for the embedded default",
		},
		"default in an import": {
			map[string]string{"Corefile": ".:53 {\n    import more\n}\n", "more": "# {$IN:a comment}\nlog {$CLASS:all}\n"},
			"more:2: {$CLASS:all} has a default in an imported file\nhint: defaults of variables work in the Corefile itself only: move the line there, or set the variable and drop the default",
		},
		"line break in a variable": {
			map[string]string{"Corefile": ".:53 {\n    log {$CRLF:all}\n}\n"},
			"Corefile:2: the value of CRLF holds a line break",
		},
		"zone twice": {
			map[string]string{"Corefile": "a.test {\n    whoami\n}\n\nb.test A.TEST. {\n    whoami\n}\n"},
			"Corefile:5: zone a.test. on port 53 is answered by the block at Corefile:1\nhint: make one block of them, `bind` them to different addresses, or tell their clients apart with `horizon`",
		},
		"zone twice in a block": {
			map[string]string{"Corefile": "a.test a.test {\n    whoami\n}\n"},
			"Corefile:1: zone a.test. on port 53 is answered by this block already\nhint: make one block of them, `bind` them to different addresses, or tell their clients apart with `horizon`",
		},
		"zone on all and on one": {
			map[string]string{"Corefile": "tls://. {\n    whoami\n}\n\ntls://. {\n    bind 127.0.0.1\n    whoami\n}\n"},
			"Corefile:5: zone . on port 853 (tls) is answered on all addresses here and on single ones by the block at Corefile:1, or the other way round\nhint: `bind` both to single addresses, or neither",
		},
		"horizon twice": {
			map[string]string{"Corefile": ".:53 {\n    horizon in 10.0.0.0/8\n}\n.:53 {\n    horizon in\n}\n"},
			"Corefile:4: zone . on port 53 for horizon in is answered by the block at Corefile:1\nhint: make one block of them",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, tc.files)
			_, err := Load(Source{File: filepath.Join(dir, "Corefile")})
			if d := cmp.Diff(tc.want, complaint(err, dir)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

func TestAccepted(t *testing.T) {
	for name, text := range map[string]string{
		"other addresses":    ".:53 {\n bind 127.0.0.1\n whoami\n}\n.:53 {\n bind 127.0.0.2\n whoami\n}\n",
		"other ports":        ".:53 {\n whoami\n}\n.:54 {\n whoami\n}\n",
		"other transports":   ".:53 {\n whoami\n}\ntls://.:53 {\n whoami\n}\n",
		"horizons":           ".:53 {\n horizon a 10.0.0.0/8\n}\n.:53 {\n horizon b 11.0.0.0/8\n}\n.:53 {\n whoami\n}\n",
		"views":              ".:53 {\n view a {\n expr true\n }\n}\n.:53 {\n view b {\n expr true\n }\n}\n",
		"no braces":          ".:53\nwhoami\nerrors\n",
		"many keys":          "a.test,\nb.test:54, tls://c.test {\n whoami\n}\n",
		"reverse":            "10.0.0.0/15 {\n whoami\n}\n",
		"empty block":        "a.test {\n}\n",
		"stock's own":        ".:53 {\n whoami\n log\n}\n",
		"classless wildcard": ".:53 {\n rewrite name regex (.*)\\.a\\.test {1}.b.test answer auto\n whoami\n}\n",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Load(Source{File: write(t, text)}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestLines looks where the words of a file with imports and snippets end up, and back.
func TestLines(t *testing.T) {
	dir := tree(t, map[string]string{
		"Corefile": "(common) {\n    errors\n    log\n}\n\n.:53 {\n    import common\n    import extra\n    whoami\n}\n\nb.test:53 {\n    chaos {$VERSION:\"v 1\"} \\\"x\n}\n",
		"extra":    "\n\nheader {\n    response set aa\n}\n",
	})
	main := filepath.Join(dir, "Corefile")
	l, err := Load(Source{File: main})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		word, file string
		line       int
	}{
		{"errors", "Corefile", 2},
		{"log", "Corefile", 3},
		{"header", "extra", 3},
		{"response", "extra", 4},
		{"whoami", "Corefile", 9},
		{"chaos", "Corefile", 13},
	} {
		found := 0
		for i, line := range strings.Split(string(l.Body), "\n") {
			if f := strings.Fields(line); len(f) > 0 && f[0] == tc.word {
				found = i + 1
			}
		}
		p := l.lines[found-1]
		if found == 0 || filepath.Base(p.file) != tc.file || p.line != tc.line {
			t.Errorf("%s: line %d of the body comes from %s, want %s:%d", tc.word, found, p, tc.file, tc.line)
		}
	}
	if l.Blocks[0].place.line != 6 || l.Blocks[1].place.line != 12 {
		t.Errorf("blocks at %v and %v", l.Blocks[0].place, l.Blocks[1].place)
	}
}

func TestLinesStayWithoutImports(t *testing.T) {
	text := "# first\n\n.:53 {\n    errors\n\n    # more\n    forward . 192.0.2.1 {\n        max_fails 3\n\n        policy random\n    }\n    cache {\n        success 10\n    }\n}\n\nb.test {\n    log\n}\n"
	l, err := Load(Source{File: write(t, text)})
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(text, "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		got := strings.Fields(strings.Split(string(l.Body), "\n")[i])
		if len(got) == 0 || got[0] != f[0] {
			t.Errorf("line %d: %q became %q", i+1, line, got)
		}
	}
}

func TestVariables(t *testing.T) {
	t.Setenv("FROM_ENV", "env")
	t.Setenv("IN_BOTH", "env")
	l, err := Load(Source{
		File: write(t, ".:53 {\n chaos {$FROM_ENV:d} {$IN_BOTH:d} {$IN_VARS} {$NOWHERE:a b} {$FROM_ENV}\n}\n"),
		Vars: map[string]string{"IN_BOTH": "vars", "IN_VARS": "vars"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := "chaos env vars vars a b env\n"; !strings.Contains(string(l.Body), want) {
		t.Errorf("no %q in\n%s", want, l.Body)
	}
}

func TestControlSurfaces(t *testing.T) {
	for _, tc := range []struct{ line, want, warns string }{
		{"health", "health 127.0.0.1:8080", ""},
		{"ready", "ready 127.0.0.1:8181", ""},
		{"prometheus", "prometheus", ""},
		{"pprof", "pprof", ""},
		{"health {\nlameduck 1s\n}", "health 127.0.0.1:8080 {", ""},
		{"health localhost:8080", "health localhost:8080", ""},
		{"health [::1]:8080", "health [::1]:8080", ""},
		{"health :8080", "health :8080", ":2: health listens on :8080 without authentication: anybody who reaches the address can use it"},
		{"prometheus 0.0.0.0:9153", "prometheus 0.0.0.0:9153", ":2: prometheus listens on 0.0.0.0:9153 without authentication: anybody who reaches the address can use it"},
	} {
		t.Run(tc.line, func(t *testing.T) {
			file := write(t, ".:53 {\n"+tc.line+"\nbind 127.0.0.1\n}\n")
			l, err := Load(Source{File: file})
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Split(string(l.Body), "\n")[1]; got != tc.want {
				t.Errorf("line 2 is %q, want %q", got, tc.want)
			}
			if got := strings.ReplaceAll(strings.Join(l.Warnings, "\n"), file, ""); got != tc.warns {
				t.Errorf("warnings %q, want %q", got, tc.warns)
			}
		})
	}
	t.Run("imported", func(t *testing.T) {
		dir := tree(t, map[string]string{"Corefile": "(s) {\n ready\n}\n.:53 {\n import s\n import more\n}\n", "more": "health\n"})
		l, err := Load(Source{File: filepath.Join(dir, "Corefile")})
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"health 127.0.0.1:8080", "ready 127.0.0.1:8181"} {
			if !strings.Contains(string(l.Body), want) {
				t.Errorf("no %q in\n%s", want, l.Body)
			}
		}
	})
}

func TestOpenResolverWarning(t *testing.T) {
	for _, tc := range []struct {
		name, block string
		want        string
	}{
		{"all addresses", "forward . 192.0.2.1", "all addresses of this host"},
		{"a public address", "bind 127.0.0.1 198.51.100.7\nforward . 192.0.2.1", "198.51.100.7"},
		{"inner addresses", "bind 127.0.0.1 10.0.0.1 fd00::1 fe80::1 100.64.0.1\nforward . 192.0.2.1", ""},
		{"acl", "acl {\nallow net 10.0.0.0/8\nblock\n}\nforward . 192.0.2.1", ""},
		{"horizon", "horizon in 10.0.0.0/8\nforward . 192.0.2.1", ""},
		{"answers from a file only", "file zone a.test", ""},
		{"bounded", "rrl\nforward . 192.0.2.1", "all addresses of this host"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := write(t, "\n.:53 {\n"+tc.block+"\n}\n")
			l, err := Load(Source{File: file})
			if err != nil {
				t.Fatal(err)
			}
			want := ""
			if tc.want != "" {
				want = ":2: OPEN RESOLVER: this block forwards for every client and listens on " + tc.want +
					"; strangers can use it for attacks: `bind` inner addresses, or say with `acl` who may ask"
				if tc.name != "bounded" {
					want += "; if it is meant for all, bound with `rrl` what each may have sent to others"
				}
			}
			if got := strings.ReplaceAll(strings.Join(l.Warnings, "\n"), file, ""); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// TestPortsThatAreNotRead has what people who come from dnsmasq write.
func TestPortsThatAreNotRead(t *testing.T) {
	for text, want := range map[string]string{
		"forward . 127.0.0.1#8600":              ":3: the port of 127.0.0.1#8600 is not read, because # begins a comment: write 127.0.0.1:8600",
		"consul {\nto 10.0.0.1 ::1#8600 # x\n}": ":4: the port of ::1#8600 is not read, because # begins a comment: write [::1]:8600",
		"forward . 127.0.0.1 #8600":             "",
		"forward . 127.0.0.1 # or 10.0.0.1#5":   "",
		"forward . 127.0.0.1#the first":         "",
		"forward . tls://9.9.9.9%cafe#853":      "",
	} {
		file := write(t, "\n. {\n"+text+"\nbind 127.0.0.1\n}\n")
		l, err := Load(Source{File: file})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.ReplaceAll(strings.Join(l.Warnings, "\n"), file, ""); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", text, got, want)
		}
	}
}

func TestIdentity(t *testing.T) {
	id := func(text string) string {
		l, err := Load(Source{File: write(t, text)})
		if err != nil {
			t.Fatal(err)
		}
		return l.Blocks[0].Identity
	}
	base := id("a.test b.test {\n rewrite name x y\n forward . 192.0.2.1\n}\n")
	for name, tc := range map[string]struct {
		text string
		same bool
	}{
		"log and metrics":     {"a.test b.test {\n log\n errors\n prometheus\n rewrite name x y\n forward . 192.0.2.1\n}\n", true},
		"order of directives": {"b.test a.test {\n forward . 192.0.2.1\n rewrite name x y\n}\n", true},
		"comments and space":  {"# c\n\na.test   b.test {\n\n rewrite   name x y\n forward . 192.0.2.1 # c\n}\n", true},
		"bounds of the cache": {"a.test b.test {\n cache 30\n rewrite name x y\n forward . 192.0.2.1\n}\n", true},
		"other address":       {"a.test b.test {\n bind 127.0.0.1\n rewrite name x y\n forward . 192.0.2.1\n}\n", true},
		"upstream":            {"a.test b.test {\n rewrite name x y\n forward . 192.0.2.2\n}\n", false},
		"zone":                {"a.test c.test {\n rewrite name x y\n forward . 192.0.2.1\n}\n", false},
		"hosts":               {"a.test b.test {\n hosts\n rewrite name x y\n forward . 192.0.2.1\n}\n", false},
		"order of rewrites":   {"a.test b.test {\n rewrite name z y\n rewrite name x y\n forward . 192.0.2.1\n}\n", false},
		"horizon":             {"a.test b.test {\n horizon in 10.0.0.0/8\n rewrite name x y\n forward . 192.0.2.1\n}\n", false},
		"words joined":        {"a.test b.test {\n rewrite name \"x y\"\n forward . 192.0.2.1\n}\n", false},
	} {
		if got := id(tc.text); (got == base) != tc.same {
			t.Errorf("%s: same identity %v, want %v", name, got == base, tc.same)
		}
	}
	in := id("a.test {\n horizon in 10.0.0.0/8\n}\n")
	if in != id("a.test {\n horizon in 10.0.0.0/8 11.0.0.0/8\n}\n") {
		t.Error("another prefix of a horizon dropped its answers")
	}
	if in == id("a.test {\n horizon out 10.0.0.0/8\n}\n") {
		t.Error("two horizons share an identity")
	}
}

// FuzzLoad: whatever loads means to caddy what the user's text means.
func FuzzLoad(f *testing.F) {
	f.Add(string(defaultText))
	f.Add("(s) {\nlog\n}\na b:1 {\nimport s\nimport s\nrewrite \"a \\\" b\" c {\nx\n}\n}\n")
	f.Add(". {\nchaos \"multi\nline\" {$X:y z}\n}\nx\nwhoami")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "import") && strings.ContainsAny(text, "/*?[") {
			t.Skip("reads files")
		}
		file := filepath.Join(t.TempDir(), "Corefile")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Load(Source{File: file})
		if err != nil {
			return
		}
		plain, faults := expand(file, []byte(text), nil)
		if faults != nil {
			t.Fatal("loaded with faults")
		}
		want, err := caddyfile.Parse(file, bytes.NewReader(plain), directives)
		if err != nil {
			t.Fatalf("caddy refuses what loaded: %v", err)
		}
		got, err := caddyfile.Parse(file, bytes.NewReader(l.Body), directives)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%d blocks became %d: %v\n%s", len(want), len(got), err, l.Body)
		}
		for i := range want {
			if d := cmp.Diff(want[i].Keys, got[i].Keys); d != "" {
				t.Fatalf("zones: %s", d)
			}
			for name, tokens := range want[i].Tokens {
				if _, changed := surfaces[name]; changed {
					continue
				}
				if d := cmp.Diff(shape(name, tokens), shape(name, got[i].Tokens[name])); d != "" {
					t.Fatalf("%s: %s\n%s", name, d, l.Body)
				}
			}
		}
	})
}

// shape is the words of a directive with the line breaks between them.
func shape(name string, tokens []caddyfile.Token) []string {
	var out []string
	for i, t := range tokens {
		if i > 0 && !sameLine(tokens[i-1], t) {
			out = append(out, "\n")
		}
		if i == 0 {
			t.Text = name
		}
		out = append(out, t.Text)
	}
	return out
}
