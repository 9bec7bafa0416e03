package snapshot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/cache"
)

const hour = time.Hour

func open(t testing.TB, bytes int64) *cache.Cache {
	t.Helper()
	c, err := cache.New("test", cache.Size{Bytes: bytes})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func name(i int) string { return fmt.Sprintf("n%d.example.", i) }

func key(t testing.TB, i int) []byte {
	t.Helper()
	k, err := cache.AppendQuestionKey(nil, dns.Question{Name: name(i), Qtype: dns.TypeA, Qclass: dns.ClassINET}, cache.RD)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// store stores name i with an address that is told from the number.
func store(t testing.TB, c *cache.Cache, i int, ttl uint32, o cache.Storage) {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name(i), dns.TypeA)
	m.Response = true
	m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: name(i), Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}, A: net.IPv4(10, byte(i>>16), byte(i>>8), byte(i)).To4()}}
	o.Epoch = c.Epoch().Load()
	p := cache.Prepare(m, false, cache.DefaultTerms(), time.Now())
	p.EDE = nil
	if i%10 == 0 {
		p.EDE = []cache.EDE{{Code: 3, Text: "because"}, {Code: 22}}
		o.Tag = "*.example."
	}
	if s, err := c.Store(key(t, i), p, o, time.Now()); err != nil || !s.New {
		t.Fatalf("%s is not stored: %v", name(i), err)
	}
}

// reply returns what the cache answers for name i, or "".
func reply(t testing.TB, c *cache.Cache, i int, stale time.Duration) string {
	t.Helper()
	e := c.Find(key(t, i), time.Now(), stale)
	if e == nil {
		return ""
	}
	var m dns.Msg
	if err := m.Unpack(e.AppendReply(nil, cache.Reply{AD: true}, time.Now())); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(m.String(), e.Kind(), e.Answers(), e.NoStale(), e.EDE(), e.Tag())
}

func keep(c *cache.Cache, file string, every, stale time.Duration) *Keeper {
	k := Open(c, Options{File: file})
	k.Keep(every, stale)
	return k
}

// settle waits until the file is read.
func settle(t testing.TB, k *Keeper) Status {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if s := k.Status(); !s.Loading {
			return s
		}
		if time.Now().After(end) {
			t.Fatal("it loads on and on")
		}
	}
}

func TestRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "c")
		c := open(t, 0)
		k := keep(c, file, hour, hour)
		synctest.Wait()
		for i := range 500 {
			store(t, c, i, 600, cache.Storage{NoStale: i%3 == 0})
		}
		store(t, c, 1000, 60, cache.Storage{})              // stale when it is read
		store(t, c, 1001, 60, cache.Storage{NoStale: true}) // of no use then
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Second)
		d := open(t, 0)
		l := keep(d, file, hour, hour)
		synctest.Wait()
		if s := l.Status(); s.Loaded != 501 || s.Failures != 0 {
			t.Fatalf("%+v", s)
		}
		for i := range 500 {
			if diff := cmp.Diff(reply(t, c, i, 0), reply(t, d, i, 0)); diff != "" {
				t.Fatalf("%s: before (-), after (+):\n%s", name(i), diff)
			}
		}
		if !strings.Contains(reply(t, d, 1, 0), "\t500\tIN\tA") {
			t.Errorf("the TTL did not count down:\n%s", reply(t, d, 1, 0))
		}
		if reply(t, d, 1000, 0) != "" || reply(t, d, 1000, hour) == "" || reply(t, d, 1001, hour) != "" {
			t.Error("what had expired is not as it should be")
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// What changed is written at intervals, what did not is not; a kill loses what came after.
func TestInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "c")
		c := open(t, 0)
		k := keep(c, file, time.Minute, hour)
		defer k.Close()
		time.Sleep(10 * time.Minute)
		if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("an empty cache was written: %v", err)
		}
		store(t, c, 1, 3600, cache.Storage{})
		time.Sleep(61 * time.Second)
		first := k.Status()
		if first.Entries != 1 {
			t.Fatalf("%+v", first)
		}
		time.Sleep(10 * time.Minute)
		if s := k.Status(); s != first {
			t.Errorf("written again for nothing: %+v", s)
		}
		k.Keep(0, hour) // off
		if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("off, and the file stays: %v", err)
		}
		store(t, c, 2, 3600, cache.Storage{})
		time.Sleep(3 * time.Hour)
		if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("off, and written: %v", err)
		}
		k.Keep(time.Minute, hour) // on again
		synctest.Wait()
		if s := k.Status(); s.Entries != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// What was flushed does not come back, even if the process is killed right after.
func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "c")
		c := open(t, 0)
		k := keep(c, file, time.Minute, hour)
		defer k.Close()
		store(t, c, 1, 3600, cache.Storage{})
		store(t, c, 2, 3600, cache.Storage{})
		time.Sleep(61 * time.Second)
		if k.Status().Entries != 2 {
			t.Fatalf("%+v", k.Status())
		}
		if n, err := c.FlushName(name(1)); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the flush is over, and the file is there: %v", err)
		}
		synctest.Wait()
		d := open(t, 0)
		l := keep(d, file, hour, hour)
		synctest.Wait()
		if reply(t, d, 1, 0) != "" || reply(t, d, 2, 0) == "" {
			t.Error("the wrong name is gone")
		}
		_ = l.Close()
	})
}

// Queries are answered while the file is read: what they brought is not replaced.
func TestNewerStays(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c")
	c := open(t, 0)
	k := keep(c, file, hour, hour)
	settle(t, k)
	store(t, c, 1, 60, cache.Storage{})
	store(t, c, 2, 60, cache.Storage{})
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	d := open(t, 0)
	store(t, d, 1, 3600, cache.Storage{})
	l := keep(d, file, hour, hour)
	defer l.Close()
	if s := settle(t, l); s.Loaded != 1 {
		t.Errorf("%+v", s)
	}
	if !strings.Contains(reply(t, d, 1, 0), "\t3600\t") {
		t.Error("an old response took the place of a new one")
	}
}

// A file that is damaged anywhere gives what stands before, and is replaced.
func TestDamage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c")
	c := open(t, 0)
	k := keep(c, file, hour, hour)
	settle(t, k)
	for i := range 6000 { // some chunks
		store(t, c, i, 3600, cache.Storage{})
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if i, err := os.Stat(file); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", i.Mode(), err)
	}
	chunk := len(magic) + 8 + int(binary.LittleEndian.Uint32(good[len(magic):]))
	if chunk+100 > len(good) {
		t.Fatalf("one chunk of %d octets in a file of %d", chunk, len(good))
	}
	flip := func(at int) []byte {
		b := slices.Clone(good)
		b[at] ^= 0x40
		return b
	}
	for what, f := range map[string]struct {
		content     []byte
		least, most int
	}{
		"nothing":             {nil, 0, 0},
		"another file":        {[]byte("hello, world, this is no snapshot at all"), 0, 0},
		"another version":     {append([]byte("resolverd cache 9\n"), good[len(magic):]...), 0, 0},
		"cut in the magic":    {good[:5], 0, 0},
		"cut in a frame":      {good[:len(magic)+3], 0, 0},
		"cut in a chunk":      {good[:chunk-1], 0, 0},
		"cut after a chunk":   {good[:chunk], 1000, 5999},
		"without its end":     {good[:len(good)-8], 6000, 6000},
		"a length":            {flip(len(magic) + 3), 0, 0},
		"a checksum":          {flip(len(magic) + 4), 0, 0},
		"the first record":    {flip(len(magic) + 9), 0, 0},
		"the second chunk":    {flip(chunk + 50), 1000, 5999},
		"zeros at the end":    {append(slices.Clone(good[:chunk]), make([]byte, 4096)...), 1000, 5999},
		"garbage after it":    {append(slices.Clone(good), "garbage"...), 6000, 6000},
		"a directory instead": {nil, 0, 0},
	} {
		t.Run(what, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "c")
			if what == "a directory instead" {
				err = os.Mkdir(file, 0o700)
			} else {
				err = os.WriteFile(file, f.content, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			d := open(t, 0)
			l := keep(d, file, hour, hour)
			s := settle(t, l)
			if s.Loaded < f.least || s.Loaded > f.most {
				t.Errorf("%d entries, want %d to %d", s.Loaded, f.least, f.most)
			}
			whole := f.least == 6000 && what != "without its end" || what == "zeros at the end"
			if (s.Failures == 0) != whole {
				t.Errorf("%d failures", s.Failures)
			}
			_ = l.Close()
		})
	}
}

// TestEndWhileLoading: a process that ends before it has read all leaves the file alone.
func TestEndWhileLoading(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c")
	c := open(t, 0)
	k := keep(c, file, hour, hour)
	settle(t, k)
	for i := range 20000 {
		store(t, c, i, 3600, cache.Storage{})
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(file)
	d := open(t, 0)
	l := Open(d, Options{File: file})
	l.Keep(hour, hour)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	after, _ := os.ReadFile(file)
	if s := l.Status(); s.Loaded < 20000 && !bytes.Equal(before, after) {
		t.Errorf("%d entries were read, and the file was replaced", s.Loaded)
	}
	// One that was never started does not touch it either: a Corefile that was refused.
	m := Open(open(t, 0), Options{File: file})
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if now, _ := os.ReadFile(file); !bytes.Equal(now, after) {
		t.Error("a keeper that kept nothing wrote")
	}
}

// A disk that takes nothing is a warning, and the next try comes.
func TestNoDisk(t *testing.T) {
	c := open(t, 0)
	k := keep(c, filepath.Join(t.TempDir(), "missing", "c"), hour, hour)
	settle(t, k)
	store(t, c, 1, 3600, cache.Storage{})
	if err := k.Close(); err == nil {
		t.Error("written nowhere")
	}
	if s := k.Status(); s.Failures != 1 || reply(t, c, 1, 0) == "" {
		t.Errorf("%+v", s)
	}
}

// The hot entries come first, and a smaller cache is filled with them.
func TestHotFirst(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c")
	c := open(t, 0)
	k := keep(c, file, hour, hour)
	settle(t, k)
	const all = 20000
	for i := range all {
		store(t, c, i, 3600, cache.Storage{})
	}
	for i := 0; i < all; i += 20 {
		c.Find(key(t, i), time.Now(), 0)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	d := open(t, 2<<20)
	l := keep(d, file, hour, hour)
	defer l.Close()
	s := settle(t, l)
	if s.Loaded < all/20 || s.Loaded == all {
		t.Fatalf("%+v", s)
	}
	for i := 0; i < all; i += 20 {
		if reply(t, d, i, 0) == "" {
			t.Errorf("%s was hot and is missing", name(i))
		}
	}
	if st := d.Stats(); st.Bytes > 2<<20 || st.SuccessEvictions > 0 {
		t.Errorf("%+v", st)
	}
}

// Records that a clock in the future wrote are left out: for how long they are true nobody
// knows.
func TestClockWentBack(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c")
	var b bytes.Buffer
	c := open(t, 0)
	store(t, c, 1, 60, cache.Storage{})
	_, err := write(&b, func(yield func(cache.Record) bool) {
		c.Each(func(r cache.Record) bool { r.Stored = r.Stored.Add(hour); return yield(r) })
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	k := keep(open(t, 0), file, hour, hour)
	defer k.Close()
	if s := settle(t, k); s.Loaded != 0 {
		t.Errorf("%+v", s)
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"new", "old", ".half"} {
		if err := os.WriteFile(filepath.Join(dir, n), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-8 * 24 * hour)
	if err := os.Chtimes(filepath.Join(dir, "old"), long, long); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(left) != 1 || filepath.Base(left[0]) != "new" {
		t.Errorf("left: %v", left)
	}
	if err := Sweep(filepath.Join(dir, "missing"), time.Now()); err != nil {
		t.Error(err)
	}
}

// FuzzRead looks for what reading does not survive.
func FuzzRead(f *testing.F) {
	c := open(f, 0)
	store(f, c, 10, 60, cache.Storage{})
	store(f, c, 11, 60, cache.Storage{})
	var b bytes.Buffer
	if _, err := write(&b, c.Each); err != nil {
		f.Fatal(err)
	}
	// The fuzzer does not find checksums: it is given records.
	f.Add(b.Bytes()[len(magic)+8 : b.Len()-8])
	f.Fuzz(func(t *testing.T, records []byte) {
		d := open(t, cache.MinBytes)
		now := time.Now()
		for len(records) > 0 {
			r, rest, ok := cutRecord(records)
			if !ok {
				return
			}
			if d.Restore(r, hour, d.Epoch().Load(), now) {
				e := d.Peek(r.Key)
				if e == nil || now.Sub(e.Expires()) > hour {
					t.Fatalf("%+v", r)
				}
				_ = e.AppendReply(nil, cache.Reply{}, now)
			}
			records = rest
		}
	})
}
