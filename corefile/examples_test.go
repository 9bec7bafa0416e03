package corefile

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// fence is a block of a README that is a whole Corefile.
var fence = regexp.MustCompile("(?ms)^(?:~~~|```) ?corefile\n(.*?)^(?:~~~|```)$")

// TestExamples checks every Corefile that we show to people.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../examples/*.Corefile")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			if _, err := Check(Source{File: f}); err != nil {
				t.Errorf("%s", complaint(err, ".."))
			}
		})
	}
	text, err := os.ReadFile("../examples/default.Corefile")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, Default()) {
		t.Error("examples/default.Corefile is not the embedded default")
	}
}

// TestREADMEs checks the Corefiles in the READMEs of our plugins.
func TestREADMEs(t *testing.T) {
	readmes, err := filepath.Glob("../plugin/*/README.md")
	if err != nil || len(readmes) == 0 {
		t.Fatalf("%d READMEs, %v", len(readmes), err)
	}
	for _, path := range readmes {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		plugin := filepath.Base(filepath.Dir(path))
		blocks := fence.FindAllSubmatch(text, -1)
		if len(blocks) == 0 {
			t.Errorf("the README of %s shows no whole Corefile", plugin)
		}
		for _, b := range blocks {
			t.Run(plugin, func(t *testing.T) {
				if _, err := Check(Source{File: write(t, string(b[1]))}); err != nil {
					t.Errorf("%v\n%s", err, b[1])
				}
			})
		}
	}
}
