package api_test

import (
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/resolverd/resolverd/api"
)

var (
	curlLine = regexp.MustCompile(`(?m)^curl (.*?)(?:   # (\d+))?$`)
	curlWord = regexp.MustCompile(`'([^']*)'|(\S+)`)
)

// TestDocumentedExamples runs each curl line of docs/api.md and sees that no endpoint
// lacks one.
func TestDocumentedExamples(t *testing.T) {
	text, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t)
	used := map[string]bool{}
	lines := curlLine.FindAllStringSubmatch(string(text), -1)
	if len(lines) < 30 {
		t.Fatalf("only %d examples", len(lines))
	}
	for _, l := range lines {
		method, body, at, header := "GET", "", "", ""
		words := curlWord.FindAllStringSubmatch(l[1], -1)
		word := func(n int) string { return words[n][1] + words[n][2] }
		for n := 0; n < len(words); n++ {
			switch w := word(n); w {
			case "-X":
				n++
				method = word(n)
			case "--data":
				n++
				body = word(n)
			case "-H":
				n++
				header = word(n)
			default:
				at = w
			}
		}
		u, err := url.Parse(at)
		if err != nil || u.Host != "127.0.0.1:8553" {
			t.Fatalf("%s: %v", l[0], err)
		}
		want := "200"
		if l[2] != "" {
			want = l[2]
		}
		var a answer
		if header == "" {
			a = b.ask(method, u.RequestURI(), body)
		} else {
			a = b.ask(method, u.RequestURI(), body, header)
		}
		if itoa(a.code) != want {
			t.Errorf("%s: %d %s", l[0], a.code, a.body)
		}
		used[method+" "+u.Path] = true
	}
	for _, r := range api.Routes(b.srv.Config.Handler) {
		found := false
		for u := range used {
			found = found || u == r || strings.HasSuffix(r, "/") && strings.HasPrefix(u, r)
		}
		if !found {
			t.Errorf("docs/api.md has no example of %s", r)
		}
	}
}
