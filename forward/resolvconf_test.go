package forward

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseResolvConf(t *testing.T) {
	tests := []struct {
		name string
		text string
		want string
	}{
		{"empty", "", ""},
		{"two", "nameserver 192.0.2.1\nnameserver 192.0.2.2\n", "192.0.2.1 192.0.2.2"},
		{"no newline at the end", "nameserver 192.0.2.1", "192.0.2.1"},
		{"CRLF, tabs", "nameserver\t192.0.2.1\r\n  nameserver   2001:db8::1 \r\n", "192.0.2.1 2001:db8::1"},
		{"comments", "# nameserver 192.0.2.1\n;nameserver 192.0.2.2\nnameserver 192.0.2.3 # ours\n", "192.0.2.3"},
		{"other words", "search example.org\noptions ndots:5\ndomain nameserver\nnameservers 192.0.2.1\n", ""},
		{"once each", "nameserver 192.0.2.1\nnameserver 192.0.2.1\nnameserver ::ffff:192.0.2.1\n", "192.0.2.1"},
		{"what is no address", "nameserver\nnameserver ns.example.org\nnameserver 192.0.2.256\nnameserver 192.0.2.1:53\n", ""},
		{"zones", "nameserver fe80::1%eth0\nnameserver 2001:db8::1%eth0\n", "fe80::1%eth0 2001:db8::1"},
		{"unspecified is this host", "nameserver 0.0.0.0\nnameserver ::\n", "127.0.0.1 ::1"},
		{"multicast", "nameserver 224.0.0.251\n", ""},
		{"too many", strings.Repeat("nameserver 192.0.2.", 1) + "1\n" + func() string {
			var b strings.Builder
			for i := range 40 {
				b.WriteString("nameserver 198.51.100." + string(rune('0'+i/10)) + string(rune('0'+i%10)) + "\n")
			}
			return b.String()
		}(), "192.0.2.1 198.51.100.10 198.51.100.11 198.51.100.12 198.51.100.13 198.51.100.14 198.51.100.15 198.51.100.16 198.51.100.17 198.51.100.18 198.51.100.19 198.51.100.20 198.51.100.21 198.51.100.22 198.51.100.23"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, a := range ParseResolvConf([]byte(tt.text)) {
				got = append(got, a.String())
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("addresses (-want +got):\n%s", diff)
			}
		})
	}
}

// Whatever a file holds: no panic, few addresses, each usable and once.
func FuzzParseResolvConf(f *testing.F) {
	f.Add([]byte("nameserver 192.0.2.1\nnameserver fe80::1%eth0\nsearch x\n"))
	f.Add([]byte("nameserver ::ffff:1.2.3.4\x00\nnameserver 0.0.0.0"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got := ParseResolvConf(text)
		if len(got) > maxNameservers {
			t.Fatalf("%d addresses", len(got))
		}
		seen := map[netip.Addr]bool{}
		for _, a := range got {
			if !a.IsValid() || a.IsUnspecified() || a.Is4In6() || seen[a] {
				t.Fatalf("address %v of %v", a, got)
			}
			seen[a] = true
		}
	})
}

// eventually waits until the pool asks exactly these.
func eventually(t *testing.T, p *Pool, want string) {
	t.Helper()
	var got string
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); <-time.After(5 * time.Millisecond) {
		var all []string
		for _, s := range p.Upstreams() {
			all = append(all, s.Endpoint.String())
		}
		if got = strings.Join(all, " "); got == want {
			return
		}
	}
	t.Fatalf("upstreams are %q, want %q", got, want)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// replace puts a new file at path at once, as DHCP clients do.
func replace(t *testing.T, path, text string) {
	t.Helper()
	write(t, path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestFileIsFollowed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "resolv.conf")
	write(t, path, "nameserver 192.0.2.1\n")

	var ours atomic.Pointer[netip.AddrPort]
	var logged strings.Builder
	o := Default()
	o.Log = slog.New(slog.NewTextHandler(&logged, nil))
	o.Ours = func(a netip.AddrPort) bool { p := ours.Load(); return p != nil && a == *p }
	o.Sources = []Source{
		{Endpoint: Endpoint{Transport: TLS, Addr: netip.MustParseAddrPort("192.0.2.100:853")}},
		{File: path},
	}
	p, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, p, "tls://192.0.2.100:853")
	p.Start()
	const static = "tls://192.0.2.100:853 "
	eventually(t, p, static+"192.0.2.1:53")
	first := (*p.ups.Load())[1]

	replace(t, path, "nameserver 192.0.2.2\nnameserver 192.0.2.1\n")
	eventually(t, p, static+"192.0.2.2:53 192.0.2.1:53")
	if (*p.ups.Load())[2] != first {
		t.Error("an upstream that stayed was made anew, and its health forgotten")
	}
	write(t, path, "nameserver 192.0.2.3\n") // in place
	eventually(t, p, static+"192.0.2.3:53")

	for _, text := range []string{"", "# nothing\n"} {
		replace(t, path, text)
		p.refresh()
		eventually(t, p, static+"192.0.2.3:53")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	p.refresh()
	eventually(t, p, static+"192.0.2.3:53")

	// Someone points it at us: the last good set stays.
	self := netip.MustParseAddrPort("127.0.0.1:53")
	ours.Store(&self)
	replace(t, path, "nameserver 127.0.0.1\n")
	p.refresh()
	eventually(t, p, static+"192.0.2.3:53")
	// With another beside us, the other is taken.
	replace(t, path, "nameserver 127.0.0.1\nnameserver 192.0.2.4\n")
	eventually(t, p, static+"192.0.2.4:53")

	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(logged.String(), "last good ones are kept"); n != 1 {
		t.Errorf("the loss was logged %d times, want once:\n%s", n, logged.String())
	}
}

func TestFileBehindALink(t *testing.T) {
	dir, run := t.TempDir(), t.TempDir()
	path, target := filepath.Join(dir, "resolv.conf"), filepath.Join(run, "stub.conf")
	write(t, target, "nameserver 192.0.2.1\n")
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
	o := Default()
	o.Sources = []Source{{File: path}}
	p, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.Start()
	eventually(t, p, "192.0.2.1:53")
	replace(t, target, "nameserver 192.0.2.2\n")
	eventually(t, p, "192.0.2.2:53")

	other := filepath.Join(t.TempDir(), "other.conf")
	write(t, other, "nameserver 192.0.2.3\n")
	if err := os.Symlink(other, path+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	eventually(t, p, "192.0.2.3:53")
	replace(t, other, "nameserver 192.0.2.4\n")
	eventually(t, p, "192.0.2.4:53")
}

func TestFileThatComesLater(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	o := Default()
	o.Sources = []Source{{File: path}}
	p, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.Start()
	if _, _, err := p.candidates(nil); !errors.Is(err, ErrNoUpstream) {
		t.Errorf("error %v, want ErrNoUpstream", err)
	}
	write(t, path, "nameserver 192.0.2.1\n")
	eventually(t, p, "192.0.2.1:53")
}
