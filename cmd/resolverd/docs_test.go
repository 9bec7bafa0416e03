package main

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/resolverd/resolverd/cmd/resolverd/settings"
)

func readDoc(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestSettingsAreDocumented holds docs/resolverd.yaml.md against the settings.
func TestSettingsAreDocumented(t *testing.T) {
	doc := readDoc(t, "resolverd.yaml.md")
	for _, k := range settings.Keys() {
		flag := ""
		if k.Flag != "" {
			flag = "`--" + k.Flag + "`"
		}
		row := "| `" + k.Name + "` | `" + k.Env() + "` | " + flag
		if !strings.Contains(doc, strings.TrimSpace(row)) {
			t.Errorf("no row %s", row)
		}
	}
}

// TestExampleLoads loads the file that the documentation shows.
func TestExampleLoads(t *testing.T) {
	_, rest, ok := strings.Cut(readDoc(t, "resolverd.yaml.md"), "```yaml\n")
	text, _, ok2 := strings.Cut(rest, "```")
	if !ok || !ok2 {
		t.Fatal("no example")
	}
	dir := t.TempDir()
	for _, f := range []string{"Corefile", "token"} {
		if err := os.WriteFile(dir+"/"+f, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(dir+"/services.d", 0o700); err != nil {
		t.Fatal(err)
	}
	file := dir + "/resolverd.yaml"
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "/etc/resolverd", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := settings.Load(settings.Source{File: file})
	if err != nil {
		t.Fatal(err)
	}
	if l.Node.Name != "web1" || l.API.Token != "x" {
		t.Errorf("loaded %+v", l.Settings)
	}
}

// TestCommandsAreDocumented holds every command against docs/cli.md, and its help
// against the rules.
func TestCommandsAreDocumented(t *testing.T) {
	doc := readDoc(t, "cli.md")
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		words := commandWords(c)
		if c.HasSubCommands() || c.Hidden || words == "" || c.Name() == "help" || c.RunE == nil && c.Run == nil {
			return
		}
		if c.Example == "" && !strings.HasPrefix(words, "completion") {
			t.Errorf("the help of %q has no example", words)
		}
		switch {
		case strings.HasPrefix(words, "completion"):
		case !strings.Contains(doc, "`"+words) && !strings.Contains(doc, ", `"+words):
			t.Errorf("docs/cli.md does not have %q", words)
		}
		if words == "service register" {
			c.Flags().VisitAll(func(f *pflag.Flag) {
				if !strings.Contains(doc, "--"+f.Name) && f.Name != "file" && f.Name != "config" {
					t.Errorf("docs/cli.md does not have --%s of %s", f.Name, words)
				}
			})
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if plain(f.Usage) != f.Usage || f.Usage == "" {
				t.Errorf("%s --%s: usage %q", words, f.Name, f.Usage)
			}
		})
		if c.Name() != "watch" && c.Name() != "run" && c.Name() != "answer" && c.Name() != "agent" &&
			!strings.HasPrefix(words, "completion") && c.Flags().Lookup("json") == nil {
			t.Errorf("%s has no --json", words)
		}
	}
	walk(newRoot())
	for line := range strings.Lines(exitCodesHelp) {
		f := strings.Fields(line)
		if len(f) > 2 && len(f[0]) == 1 && !strings.Contains(doc, "| "+f[0]+" | "+strings.TrimSuffix(f[1], ";")) {
			t.Errorf("docs/cli.md does not have exit code %s", strings.TrimSpace(line))
		}
	}
}
