package source

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	maxFiles = 10000
	// settled is how old a change must be for the file's time stamps to tell the next
	// one apart from it.
	settled = 2 * time.Second
)

// stamp is what of a file changes when its content does.
type stamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime int64
	trusted      bool
}

// entry is a file as it was read last.
type entry struct {
	path   string
	stamp  stamp
	unsure bool // changed so lately that the stamp may not show the next change
	sum    [sha256.Size]byte
	good   *File // the last content without fault; nil where there was none
	broken bool  // the content now has faults
	faults Faults
}

// directory is what was read of services.d.
type directory struct {
	path    string
	entries map[string]*entry // by path
	missing bool
	hcl     bool // the log was told that HCL is not read
}

// scan reads what changed. It returns the entries that were read, and an error where the
// directory could not be read: then nothing has changed. A directory that is not there
// is an empty one.
func (d *directory) scan(now time.Time) (read []*entry, foreign string, err error) {
	list, err := os.ReadDir(d.path)
	d.missing = errors.Is(err, fs.ErrNotExist)
	if err != nil && !d.missing {
		return nil, "", fmt.Errorf("source: %w", err)
	}
	dirTrusted := false
	if !d.missing {
		st, err := os.Stat(d.path)
		if err != nil {
			return nil, "", fmt.Errorf("source: %w", err)
		}
		dirTrusted = trusted(st)
	}
	seen := map[string]bool{}
	for _, e := range list {
		if strings.HasSuffix(e.Name(), ".hcl") && !d.hcl {
			foreign, d.hcl = filepath.Join(d.path, e.Name()), true
		}
		if !wanted(e.Name()) || len(seen) >= maxFiles {
			continue
		}
		path := filepath.Join(d.path, e.Name())
		had := d.entries[path]
		if had == nil {
			had = &entry{path: path}
		}
		switch changed, err := had.read(now, dirTrusted); {
		case errors.Is(err, fs.ErrNotExist):
			continue // gone since the directory was read
		case errors.Is(err, errNoFile):
			continue
		case changed:
			read = append(read, had)
		}
		seen[path] = true
		d.entries[path] = had
	}
	for path := range d.entries {
		if !seen[path] {
			delete(d.entries, path)
		}
	}
	return read, foreign, nil
}

// wanted reports whether a file of this name is ours to read: not those that editors
// and package managers leave lying about.
func wanted(name string) bool {
	switch filepath.Ext(name) {
	case ".yaml", ".yml", ".json":
		return name[0] != '.' && name[0] != '#'
	}
	return false
}

// sorted returns the entries in the order of their names.
func (d *directory) sorted() []*entry {
	list := make([]*entry, 0, len(d.entries))
	for _, e := range d.entries {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *entry) int { return cmp.Compare(a.path, b.path) })
	return list
}

// errNoFile says that a name in the directory is a directory, a socket or the like.
var errNoFile = errors.New("source: not a regular file")

// errReplaced says that a file was put in another's place while that was opened.
var errReplaced = errors.New("source: replaced")

// read reads the file where it changed. A file that cannot be read is broken.
func (e *entry) read(now time.Time, dirTrusted bool) (changed bool, err error) {
	// Without blocking: a fifo would hold us for ever.
	f, err := os.OpenFile(e.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		return e.unread(err), nil
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return e.unread(err), nil
	}
	if !st.Mode().IsRegular() {
		return false, errNoFile
	}
	switch err := named(e.path, st); {
	case errors.Is(err, errReplaced):
		return false, nil // the next scan sees it
	case errors.Is(err, fs.ErrNotExist):
		return false, err
	case err != nil:
		return e.unread(err), nil
	}
	s := stampOf(st)
	s.trusted = dirTrusted && trusted(st)
	if s == e.stamp && !e.unsure {
		return false, nil
	}
	e.unsure = now.Sub(st.ModTime()) < settled
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return e.unread(err), nil
	}
	sum := sha256.Sum256(data)
	if s.trusted == e.stamp.trusted && sum == e.sum && (e.good != nil || e.broken) {
		e.stamp = s
		return false, nil
	}
	e.sum = sum
	parsed, err := Parse(e.path, data)
	if err == nil && parsed.script > 0 && !s.trusted {
		err = Faults{{e.path, parsed.script, "a script check needs a file and a directory that only root, or the agent's user, can write",
			"chown root, chmod go-w " + e.path + " " + filepath.Dir(e.path)}}
	}
	if err != nil {
		var faults Faults
		if !errors.As(err, &faults) {
			faults = Faults{{File: e.path, What: err.Error()}}
		}
		return e.refuse(s, faults), nil
	}
	e.stamp, e.good, e.broken, e.faults = s, parsed, false, nil
	return true, nil
}

// unread is refuse for a file whose content could not be had.
func (e *entry) unread(err error) bool {
	e.sum = [sha256.Size]byte{}
	return e.refuse(stamp{}, Faults{{File: e.path, What: err.Error()}})
}

// refuse notes the faults and reports whether they are news.
func (e *entry) refuse(s stamp, f Faults) bool {
	news := !e.broken || e.faults.Error() != f.Error()
	e.stamp, e.broken, e.faults = s, true, f
	return news
}

// named returns an error where path is not the name of the opened file st, or is a link
// that its owner could have made to have us read what he may not read himself: a fault
// in a file is logged with its text.
func named(path string, st fs.FileInfo) error {
	link, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if link.Mode().Type() != fs.ModeSymlink {
		if !os.SameFile(link, st) {
			return errReplaced
		}
		return nil
	}
	l, ok := link.Sys().(*syscall.Stat_t)
	t, ok2 := st.Sys().(*syscall.Stat_t)
	if !ok || !ok2 || !mayLead(l.Uid, t.Uid, os.Geteuid()) {
		return fmt.Errorf("%s: a link that belongs neither to root, nor to the agent's user, nor to the owner of what it leads to", path)
	}
	return nil
}

// mayLead reports whether a link of the one user may lead to a file of the other, for
// an agent that runs as us.
func mayLead(link, target uint32, us int) bool {
	return link == 0 || int(link) == us || link == target
}

func stampOf(st fs.FileInfo) stamp {
	s := stamp{size: st.Size(), mtime: st.ModTime().UnixNano()}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		s.dev, s.ino, s.ctime = sys.Dev, sys.Ino, sys.Ctim.Nano()
	}
	return s
}

// trusted reports whether only root or the agent's own user can change what st is of.
func trusted(st fs.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && (sys.Uid == 0 || int(sys.Uid) == os.Geteuid()) && st.Mode().Perm()&0o022 == 0
}
