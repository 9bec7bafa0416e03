package coredns

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/resolverd/resolverd/corefile"
)

// maxRun bounds the tests' run; stock takes half a minute.
const maxRun = 5 * time.Minute

// alone is how often a test that failed among the others is tried by itself.
const alone = 6

// expected reads stock.txt: lines "pass NAME" and "without NAME: reason".
func expected(t *testing.T) (pass []string, without map[string]string) {
	t.Helper()
	text, err := os.ReadFile("stock.txt")
	if err != nil {
		t.Fatal(err)
	}
	without = map[string]string{}
	for i, line := range strings.Split(string(text), "\n") {
		line, _, _ = strings.Cut(line, "#")
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "":
		case "pass":
			pass = append(pass, strings.TrimSpace(rest))
		case "without":
			name, reason, ok := strings.Cut(rest, ":")
			if !ok {
				t.Fatalf("stock.txt:%d: no reason", i+1)
			}
			without[strings.TrimSpace(name)] = strings.TrimSpace(reason)
		default:
			t.Fatalf("stock.txt:%d: %q", i+1, word)
		}
	}
	if len(pass) < 50 {
		t.Fatalf("stock.txt has %d tests", len(pass))
	}
	return pass, without
}

func command(t *testing.T, dir string, env []string, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return out
}

// build makes the test binary of CoreDNS's tests with our plugins and returns it with
// the folder that it runs in.
func build(t *testing.T) (binary, dir string) {
	t.Helper()
	tmp := t.TempDir()
	ours := strings.TrimSpace(string(command(t, ".", nil, "go", "list", "-m", "-f", "{{.Dir}}")))
	version := strings.TrimSpace(string(command(t, ".", nil, "go", "list", "-m", "-f", "{{.GoVersion}}")))
	theirs := strings.TrimSpace(string(command(t, ".", nil, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/coredns/coredns")))
	module := filepath.Join(tmp, "coredns")
	if err := os.CopyFS(module, os.DirFS(theirs)); err != nil {
		t.Fatal(err)
	}
	plugins := filepath.Join(module, "core", "plugin", "zplugin.go")
	if err := os.WriteFile(plugins, []byte("package plugin\n\nimport _ \"github.com/resolverd/resolverd/corefile\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	leftOut(t, module)
	dir = filepath.Join(module, "test")
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		withoutStock(t, f)
	}
	work := filepath.Join(tmp, "go.work")
	text := fmt.Sprintf("go %s\n\nuse (\n\t%s\n\t%s\n)\n", version, strconv.Quote(module), strconv.Quote(ours))
	if err := os.WriteFile(work, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	binary = filepath.Join(tmp, "whole.test")
	command(t, module, []string{"GOWORK=" + work, "GOFLAGS="}, "go", "test", "-c", "-o", binary, "./test")
	return binary, dir
}

// leftOut takes the examples out of the READMEs of plugins that we do not carry, so that
// TestReadme runs all others.
func leftOut(t *testing.T, module string) {
	t.Helper()
	for _, d := range corefile.LeftOut() {
		path := filepath.Join(module, "plugin", d, "README.md")
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // `on` is caddy's, and has no README
		}
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.ReplaceAll(text, []byte("~~~ corefile"), []byte("~~~ txt"))
		text = bytes.ReplaceAll(text, []byte("``` corefile"), []byte("``` txt"))
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// withoutStock takes the benchmarks out of a file that imports stock cache or forward:
// they work on its inside, and the import would register the directive a second time.
func withoutStock(t *testing.T, path string) {
	t.Helper()
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	stock := func(s *ast.ImportSpec) bool {
		return s.Path.Value == `"github.com/coredns/coredns/plugin/forward"` || s.Path.Value == `"github.com/coredns/coredns/plugin/cache"`
	}
	if !slices.ContainsFunc(f.Imports, stock) {
		return
	}
	f.Decls = slices.DeleteFunc(f.Decls, func(d ast.Decl) bool {
		fn, ok := d.(*ast.FuncDecl)
		return ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Benchmark")
	})
	used := map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok {
				used[x.Name] = true
			}
		}
		return true
	})
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.IMPORT {
			continue
		}
		g.Specs = slices.DeleteFunc(g.Specs, func(s ast.Spec) bool {
			i := s.(*ast.ImportSpec)
			path, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			name := filepath.Base(path)
			if i.Name != nil {
				name = i.Name.Name
			}
			return stock(i) || name != "_" && !used[name]
		})
	}
	f.Comments = nil
	var out bytes.Buffer
	if err := format.Node(&out, set, f); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

var verdict = regexp.MustCompile(`^--- (PASS|FAIL|SKIP): (\S+)`)

// run returns what became of each test that matches the pattern, and the whole output.
func run(t *testing.T, binary, dir, pattern string) (map[string]string, string) {
	t.Helper()
	args := []string{"-n"}
	if os.Getuid() != 0 {
		args = []string{"-rn"}
	}
	args = append(args, "sh", "-c", `ip link set lo up && exec "$0" -test.v -test.timeout=`+maxRun.String()+` -test.run="$1"`, binary, pattern)
	cmd := exec.Command("unshare", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	results := map[string]string{}
	sc := bufio.NewScanner(bytes.NewReader(out))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if m := verdict.FindStringSubmatch(sc.Text()); m != nil {
			results[m[2]] = m[1]
		}
	}
	if len(results) == 0 {
		t.Fatalf("no test ran: %v\n%s", err, out)
	}
	return results, string(out)
}

func TestWholeServer(t *testing.T) {
	pass, without := expected(t)
	binary, dir := build(t)
	results, out := run(t, binary, dir, ".")
	lost := missing(pass, without, results)
	// Some of them race with themselves on a busy host (a server that is stopped before it
	// has started goes on taking queries), in stock too. Alone they get more tries; one
	// that our plugins break fails them all.
	for try := 0; try < alone && len(lost) > 0; try++ {
		again, more := run(t, binary, dir, "^("+strings.Join(lost, "|")+")$")
		for name, result := range again {
			results[name] = result
		}
		lost, out = missing(pass, without, results), more
	}
	for name, reason := range without {
		if !slices.Contains(pass, name) {
			t.Errorf("stock.txt leaves out %s, which stock does not pass", name)
		}
		if results[name] == "PASS" {
			t.Errorf("%s passes: take it from the exceptions (%s)", name, reason)
		}
	}
	if len(lost) > 0 {
		t.Errorf("%d of the tests that stock passes are lost:\n%s\n\n%s", len(lost), strings.Join(lost, "\n"), details(out, lost))
	}
	t.Logf("%d tests of stock pass, %d need what we leave out", len(pass)-len(without)-len(lost), len(without))
}

// missing returns the tests that must pass and did not.
func missing(pass []string, without, results map[string]string) []string {
	var lost []string
	for _, name := range pass {
		if _, excluded := without[name]; !excluded && results[name] != "PASS" {
			lost = append(lost, name)
		}
	}
	return lost
}

// details are the lines of the output that belong to the lost tests.
func details(out string, lost []string) string {
	var b strings.Builder
	keep := false
	for _, line := range strings.Split(out, "\n") {
		if name, ok := strings.CutPrefix(line, "=== RUN   "); ok {
			keep = slices.ContainsFunc(lost, func(l string) bool {
				return name == l || strings.HasPrefix(name, l+"/")
			})
		}
		if keep {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}
