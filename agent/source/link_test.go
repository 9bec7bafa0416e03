package source

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMayLead(t *testing.T) {
	const us, other, third = 100, 200, 300
	for _, tc := range []struct {
		link, target uint32
		want         bool
	}{
		{0, 0, true}, {0, other, true}, {us, 0, true}, {other, other, true},
		{other, us, false}, {other, 0, false}, {other, third, false},
	} {
		if got := mayLead(tc.link, tc.target, us); got != tc.want {
			t.Errorf("link of %d to a file of %d: %t", tc.link, tc.target, got)
		}
	}
}

// TestLinks: a link leads to what its owner could not read, only if it is root's or ours;
// the fault holds nothing of the file's text.
func TestLinks(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret")
	link := filepath.Join(dir, "a.yaml")
	if err := errors.Join(os.WriteFile(secret, []byte("hash: s3cr3t\n"), 0o600), os.Symlink(secret, link)); err != nil {
		t.Fatal(err)
	}
	faults := func() string {
		d := &directory{path: dir, entries: map[string]*entry{}}
		read, _, err := d.scan(time.Now())
		if err != nil || len(read) != 1 {
			t.Fatal(read, err)
		}
		return read[0].faults.Error()
	}
	if got := faults(); !strings.Contains(got, `"hash"`) {
		t.Errorf("an own link is not followed: %s", got)
	}
	if os.Geteuid() != 0 {
		return // nobody else can give a file away
	}
	if err := os.Lchown(link, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if got := faults(); !strings.Contains(got, "a link that belongs neither") || strings.Contains(got, "hash") {
		t.Errorf("another's link to root's file: %s", got)
	}
	if err := os.Chown(secret, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if got := faults(); !strings.Contains(got, `"hash"`) {
		t.Errorf("another's link to a file of his own is not followed: %s", got)
	}
}
