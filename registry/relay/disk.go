package relay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"github.com/resolverd/resolverd/registry"
	"golang.org/x/sys/unix"
)

// DiskConfig says where a view is kept. Only Dir is required.
type DiskConfig struct {
	// Dir is the answerer's own directory; it must be there. The file in it is "view".
	Dir string
	// Log takes damage and full disks; default slog.Default().
	Log *slog.Logger
	// Flush is how long a change may wait to be written, default 500 ms.
	Flush time.Duration
	// Retry is how long a disk that did not take a write is left alone, default 10 s.
	Retry time.Duration
	// Append is how many octets of changes are appended before all is written anew, by
	// default 8 MiB or half of the whole, whichever is more.
	Append int64
}

// Disk keeps what a view shows over a restart: everything, and the changes after it, as
// the frames of the relay, in one file. It is a copy that may be lost: a fault of the
// disk is warned of and stops nothing.
type Disk struct {
	cfg  DiskConfig
	log  *slog.Logger
	name string

	mu      sync.Mutex // guards all below
	store   uint64
	buf     []byte // frames that are not yet written
	rewrite bool   // buf does not fit to the file: write everything
	file    *os.File
	size    int64 // of the file
	base    int64 // of everything in it, without the changes
	quiet   bool  // the fault was told of
}

const (
	maxPending = 4 << 20
	fileName   = "view"
)

// NewDisk returns the disk of a view. Nothing is read or written before Load and Run.
func NewDisk(cfg DiskConfig) *Disk {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Flush <= 0 {
		cfg.Flush = 500 * time.Millisecond
	}
	if cfg.Retry <= 0 {
		cfg.Retry = 10 * time.Second
	}
	return &Disk{cfg: cfg, log: cfg.Log, name: filepath.Join(cfg.Dir, fileName), rewrite: true}
}

// Store returns the identity of the store of which the file tells, 0 where there is none.
func (d *Disk) Store() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.store
}

// Load fills an empty view with what the file holds and returns the number of records.
// Where the end of the file is damaged, what stands before it is taken and a warning
// logged; where everything in it is, or there is no file, the view stays as it is and the
// error says why (os.ErrNotExist, ErrDamaged, ErrNewer).
func (d *Disk) Load(v *registry.View) (int, error) {
	d.sweep()
	f, err := os.OpenFile(d.name, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return 0, fmt.Errorf("relay: view on disk: %w", err)
	}
	in, err := readFile(f)
	if in.whole.Revision == 0 {
		f.Close()
		if err == nil {
			err = fmt.Errorf("%w: it ends too early", ErrDamaged)
		}
		return 0, fmt.Errorf("relay: view on disk: %s: %w", d.name, err)
	}
	if err != nil {
		d.log.Warn("relay: the end of the view on disk is damaged, the rest is used", "file", d.name, "revision", in.last(), "error", err)
	}
	// The values of records were checked by no more than a checksum: a record that the
	// model cannot read is left out by the view.
	err = v.Apply(in.whole)
	if in.changes.Revision != 0 {
		err = errors.Join(err, v.Apply(in.changes))
	}
	if err != nil {
		d.log.Warn("relay: records of the view on disk left out", "file", d.name, "error", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.store, d.file, d.size, d.base, d.rewrite = in.store, f, in.good, in.base, false
	if err := f.Truncate(in.good); err != nil {
		d.rewrite = true
	}
	return len(in.whole.Records) + len(in.changes.Records), nil
}

// sweep removes what a process left that was killed while it wrote everything.
func (d *Disk) sweep() {
	left, err := filepath.Glob(filepath.Join(d.cfg.Dir, "."+fileName+"*"))
	if err != nil {
		return // only for a bad pattern
	}
	for _, name := range left {
		if err := os.Remove(name); err != nil {
			d.log.Warn("relay: remove what a killed process left", "error", err)
		}
	}
}

// contents is what was read from a file.
type contents struct {
	store   uint64
	whole   registry.Batch
	changes registry.Batch
	base    int64 // octets of everything
	good    int64 // octets without fault
}

func (c *contents) last() uint64 { return max(c.whole.Revision, c.changes.Revision) }

// readFile reads as far as the file is sound.
func readFile(f io.Reader) (contents, error) {
	var c contents
	r := newReader(f, MaxPayload)
	var whole *begin
	var parts []registry.Record
	for {
		t, payload, err := r.next()
		if errors.Is(err, io.EOF) {
			return c, nil
		}
		if err != nil {
			return c, err
		}
		done := c.whole.Revision != 0
		switch {
		case t == typeWholeBegin && !done && whole == nil:
			w, err := parseBegin(payload)
			if err != nil {
				return c, err
			}
			whole = &w
		case t == typeWholePart && !done && whole != nil:
			if parts, err = parsePart(payload, parts); err != nil {
				return c, err
			}
		case t == typeWholeEnd && !done && whole != nil:
			n, err := parseNumber(payload)
			if err != nil {
				return c, err
			}
			if n != whole.count || n != uint64(len(parts)) || whole.revision == 0 {
				return c, fmt.Errorf("%w: %d records of %d", ErrDamaged, len(parts), whole.count)
			}
			c.store = whole.store
			c.whole = registry.Batch{Revision: whole.revision, Serial: whole.serial, Whole: true, Records: parts}
			c.base = r.good
		case t == typeRecords && done:
			previous, b, err := parseRecords(payload)
			if err != nil {
				return c, err
			}
			if previous > c.last() {
				return c, fmt.Errorf("%w: nothing between revisions %d and %d", ErrDamaged, c.last(), previous)
			}
			if b.Revision > c.last() {
				c.changes.Revision = b.Revision
				c.changes.Serial = max(c.changes.Serial, b.Serial)
				c.changes.Records = append(c.changes.Records, b.Records...)
			}
		case t == typeFile:
		default:
			return c, fmt.Errorf("%w: type %d out of place", ErrDamaged, t)
		}
		c.good = r.good
	}
}

// Keep notes that the view was brought from the revision previous to the batch, whose
// Serial is the view's after it. It never waits for the disk.
func (d *Disk) Keep(store, previous uint64, b registry.Batch) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b.Whole || store != d.store {
		d.store, d.rewrite = store, true
	}
	if d.rewrite {
		return // what is written then has it
	}
	if d.buf = appendRecords(d.buf, previous, b); len(d.buf) > maxPending {
		d.buf, d.rewrite = nil, true
	}
}

// Run writes what is kept until the context ends, and once more then. The view must be
// the one that Keep tells of.
func (d *Disk) Run(ctx context.Context, v *registry.View) {
	t := time.NewTimer(d.cfg.Flush)
	defer t.Stop()
	for {
		stop := false
		select {
		case <-ctx.Done():
			stop = true
		case <-t.C:
		}
		wait := d.cfg.Flush
		if err := d.write(v); err != nil {
			wait = d.cfg.Retry
			if !d.quiet {
				d.log.Warn("relay: the view cannot be kept on disk, answers go on", "file", d.name, "error", err)
			}
			d.quiet = true
		} else if d.quiet {
			d.log.Info("relay: the view is kept on disk again", "file", d.name)
			d.quiet = false
		}
		if stop {
			d.close()
			return
		}
		t.Reset(wait)
	}
}

func (d *Disk) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file != nil {
		if err := errors.Join(d.file.Sync(), d.file.Close()); err != nil {
			d.log.Warn("relay: close the view on disk", "file", d.name, "error", err)
		}
		d.file = nil
	}
	d.rewrite = true
}

// write brings the file up to date.
func (d *Disk) write(v *registry.View) error {
	d.mu.Lock()
	buf, store := d.buf, d.store
	whole := d.rewrite || d.size-d.base > d.limit()
	d.buf = nil
	if whole {
		// All that was kept so far is in the view already. What comes from here on is
		// appended behind everything, even if that has it too.
		d.rewrite = false
	}
	d.mu.Unlock()
	if whole {
		if !v.Loaded() || store == 0 {
			d.mustRewrite()
			return nil
		}
		if err := d.everything(v, store); err != nil {
			d.mustRewrite()
			return err
		}
		return nil
	}
	if len(buf) == 0 {
		return nil
	}
	if _, err := d.file.WriteAt(buf, d.size); err != nil {
		d.mustRewrite()
		return err
	}
	d.mu.Lock()
	d.size += int64(len(buf))
	d.mu.Unlock()
	return nil
}

// limit is called with mu held.
func (d *Disk) limit() int64 {
	if d.cfg.Append > 0 {
		return d.cfg.Append
	}
	return max(8<<20, d.base/2)
}

func (d *Disk) mustRewrite() {
	d.mu.Lock()
	d.buf, d.rewrite = nil, true
	d.mu.Unlock()
}

// everything writes the view into a new file, which takes the place of the old one once
// it is on disk.
func (d *Disk) everything(v *registry.View, store uint64) error {
	b := v.Records()
	f, err := renameio.NewPendingFile(d.name, renameio.WithPermissions(0o600), renameio.WithTempDir(d.cfg.Dir))
	if err != nil {
		return err
	}
	defer func() { _ = f.Cleanup() }() // of no use once it took its place
	w := bufio.NewWriterSize(f, 256<<10)
	size := int64(0)
	out := func(p []byte) {
		size += int64(len(p))
		_, _ = w.Write(p) // the error stays for Flush
	}
	out(appendNumber(nil, typeFile, Version))
	out(appendBegin(nil, begin{store: store, revision: b.Revision, serial: b.Serial, count: uint64(len(b.Records))}))
	var buf []byte
	for rest := b.Records; len(rest) > 0; {
		buf, rest = appendPart(buf[:0], rest, chunk)
		out(buf)
	}
	out(appendNumber(nil, typeWholeEnd, uint64(len(b.Records))))
	if err := w.Flush(); err != nil {
		return err
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return err
	}
	nf, err := os.OpenFile(d.name, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file != nil {
		d.file.Close()
	}
	d.file, d.size, d.base = nf, size, size
	return nil
}
