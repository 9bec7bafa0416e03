package listenlock

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestMain runs as the other process where it is asked to: it takes the locks that its
// environment names, says so, and holds them until it is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("LISTENLOCK_TEST_DIR"); dir != "" {
		s, err := NewSet(dir, "resolverd run --other")
		if err == nil {
			err = s.Add([]netip.AddrPort{netip.MustParseAddrPort(os.Getenv("LISTENLOCK_TEST_ADDR"))})
		}
		if err == nil {
			_, err = DataDir(dir, "resolverd run --other")
		}
		fmt.Println("locked:", err)
		time.Sleep(time.Minute)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func addrs(s ...string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range s {
		out = append(out, netip.MustParseAddrPort(a))
	}
	return out
}

func set(t *testing.T, dir string) *Set {
	t.Helper()
	s, err := NewSet(dir, "resolverd run --corefile "+t.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestConflicts(t *testing.T) {
	for _, tc := range []struct {
		first, second string
		free          bool
	}{
		{"127.0.0.1:53", "127.0.0.1:53", false},
		{"127.0.0.1:53", "127.0.0.2:53", true},
		{"127.0.0.1:53", "127.0.0.1:54", true},
		{"127.0.0.1:53", "[::ffff:127.0.0.1]:53", false},
		{"[::]:53", "127.0.0.1:53", false},
		{"127.0.0.1:53", "[::]:53", false},
		{"0.0.0.0:53", "[::]:53", false},
		{"[fe80::1%eth0]:53", "[fe80::1%eth1]:53", true},
		{"127.0.0.1:0", "127.0.0.1:0", true},
	} {
		t.Run(tc.first+" "+tc.second, func(t *testing.T) {
			dir := t.TempDir()
			a, b := set(t, dir), set(t, dir)
			if err := a.Add(addrs(tc.first)); err != nil {
				t.Fatal(err)
			}
			err := b.Add(addrs(tc.second))
			var held *Held
			if (err == nil) != tc.free || err != nil && !errors.As(err, &held) {
				t.Fatalf("second copy: %v", err)
			}
			if held != nil && (held.Holder.PID != os.Getpid() || !strings.Contains(held.Error(), "resolverd run --corefile TestConflicts")) {
				t.Errorf("does not say who: %v", held)
			}
			a.Close()
			if err := b.Add(addrs(tc.second)); err != nil {
				t.Errorf("after the first has gone: %v", err)
			}
		})
	}
}

func TestAddIsAllOrNothing(t *testing.T) {
	dir := t.TempDir()
	a, b, c := set(t, dir), set(t, dir), set(t, dir)
	if err := a.Add(addrs("127.0.0.2:53")); err != nil {
		t.Fatal(err)
	}
	if err := b.Add(addrs("127.0.0.1:53", "127.0.0.2:53")); err == nil {
		t.Fatal("took what is held")
	}
	if err := c.Add(addrs("127.0.0.1:53")); err != nil {
		t.Errorf("a refused Add kept a lock: %v", err)
	}
}

// TestContention has many take and give one address: never two at a time, and none is
// refused for ever.
func TestContention(t *testing.T) {
	dir := t.TempDir()
	var holders, taken atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		s := set(t, dir)
		wg.Go(func() {
			for range 500 {
				if err := s.Add(addrs("127.0.0.1:53")); err != nil {
					continue
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d hold the address", n)
				}
				taken.Add(1)
				holders.Add(-1)
				s.Close()
			}
		})
	}
	wg.Wait()
	if taken.Load() < 8 {
		t.Errorf("taken %d times", taken.Load())
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*-127.0.0.1-53.lock")); files != nil {
		t.Errorf("left behind: %v", files)
	}
}

// TestReloads walks one set through the addresses of one Corefile after another while a
// second looks on.
func TestReloads(t *testing.T) {
	dir := t.TempDir()
	a, b := set(t, dir), set(t, dir)
	free := func(addr string, want bool) {
		t.Helper()
		err := b.Add(addrs(addr))
		b.Close()
		if (err == nil) != want {
			t.Errorf("%s: %v", addr, err)
		}
	}
	steps := []struct {
		add, free, held []string
	}{
		{[]string{"127.0.0.1:53", "[::1]:53"}, []string{"127.0.0.2:53"}, []string{"127.0.0.1:53", "[::1]:53", "[::]:53"}},
		{[]string{"[::]:53"}, []string{"127.0.0.1:54"}, []string{"127.0.0.1:53", "127.0.0.2:53", "[::]:53"}},
		{[]string{"[::]:53", "127.0.0.1:53"}, nil, []string{"127.0.0.1:53", "127.0.0.2:53", "[::]:53"}},
		{[]string{"127.0.0.1:53"}, []string{"127.0.0.2:53", "[::1]:53"}, []string{"127.0.0.1:53", "[::]:53"}},
		{[]string{"127.0.0.1:54"}, []string{"[::]:53"}, []string{"127.0.0.1:54"}},
	}
	for i, s := range steps {
		if err := a.Add(addrs(s.add...)); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		a.Keep(addrs(s.add...))
		for _, f := range s.free {
			free(f, true)
		}
		for _, h := range s.held {
			free(h, false)
		}
	}
}

func TestOtherProcess(t *testing.T) {
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "LISTENLOCK_TEST_DIR="+dir, "LISTENLOCK_TEST_ADDR=127.0.0.1:53")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 64)
	n, _ := out.Read(line)
	if got := string(line[:n]); got != "locked: <nil>\n" {
		t.Fatalf("the other process: %q", got)
	}
	want := fmt.Sprintf("is in use by another resolverd: pid %d (resolverd run --other, since %s", cmd.Process.Pid, time.Now().Format("2006-01-02"))
	err = set(t, dir).Add(addrs("127.0.0.1:53"))
	if err == nil || !strings.Contains(err.Error(), "address 127.0.0.1:53 "+want) {
		t.Errorf("address: %v", err)
	}
	_, err = DataDir(dir, "x")
	var held *Held
	if !errors.As(err, &held) || !strings.Contains(err.Error(), "data directory "+dir+" "+want) {
		t.Fatalf("data directory: %v", err)
	}
	if want := fmt.Sprintf("stop it (kill %d,", cmd.Process.Pid); !strings.HasPrefix(held.Hint(), want) {
		t.Errorf("hint %q", held.Hint())
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	if err := set(t, dir).Add(addrs("127.0.0.1:53")); err != nil {
		t.Errorf("after kill -9: %v", err)
	}
	l, err := DataDir(dir, "x")
	if err != nil {
		t.Fatalf("after kill -9: %v", err)
	}
	l.Close()
}

func TestLinksAreNotFollowed(t *testing.T) {
	dir := t.TempDir()
	precious := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(precious, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(precious, filepath.Join(dir, "lock")); err != nil {
		t.Fatal(err)
	}
	if _, err := DataDir(dir, "x"); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("a link as lock file: %v", err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "f"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(filepath.Join(dir, "f")); err == nil {
		t.Error("a fifo was opened")
	}
	if b, _ := os.ReadFile(precious); string(b) != "precious" {
		t.Errorf("written through a link: %q", b)
	}
}

func TestDirs(t *testing.T) {
	tmp := t.TempDir()
	if err := own(filepath.Join(tmp, "new")); err != nil {
		t.Error(err)
	}
	open := filepath.Join(tmp, "open")
	if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	if err := own(open); err == nil || !strings.Contains(err.Error(), "by others") {
		t.Errorf("a directory that all can write: %v", err)
	}
	link := filepath.Join(tmp, "link")
	if err := os.Symlink(filepath.Join(tmp, "new"), link); err != nil {
		t.Fatal(err)
	}
	if err := own(link); err == nil || !strings.Contains(err.Error(), "no directory") {
		t.Errorf("a link: %v", err)
	}
	if os.Getuid() == 0 {
		other := filepath.Join(tmp, "other")
		if err := errors.Join(os.Mkdir(other, 0o700), os.Chown(other, 65534, 65534)); err != nil {
			t.Fatal(err)
		}
		if err := own(other); err == nil || !strings.Contains(err.Error(), "another user") {
			t.Errorf("another's directory: %v", err)
		}
	}
	env := map[string]string{"XDG_RUNTIME_DIR": "/run/user/7", "HOME": "/home/u"}
	got := candidates(7, func(k string) string { return env[k] })
	if want := []string{"/run/user/7/resolverd", "/tmp/resolverd-7", "/home/u/.cache/resolverd"}; !slices.Equal(got, want) {
		t.Errorf("user: %v", got)
	}
	if got := candidates(0, func(k string) string { return env[k] }); !slices.Equal(got, []string{"/run/resolverd"}) {
		t.Errorf("root: %v", got)
	}
	env["RUNTIME_DIRECTORY"] = "/run/a:/run/b"
	if got := candidates(0, func(k string) string { return env[k] }); !slices.Equal(got, []string{"/run/a", "/run/resolverd"}) {
		t.Errorf("systemd: %v", got)
	}
}

func TestProbe(t *testing.T) {
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	self, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	me := fmt.Sprintf("%s (pid %d)", strings.TrimSpace(string(self)), os.Getpid())
	for _, tc := range []struct{ network, addr string }{
		{"udp", u.LocalAddr().String()},
		{"tcp", l.Addr().String()},
		{"udp", fmt.Sprintf("[::]:%d", u.LocalAddr().(*net.UDPAddr).Port)},
	} {
		err := Probe(t.Context(), tc.network, netip.MustParseAddrPort(tc.addr))
		var taken *Taken
		if !errors.As(err, &taken) || !errors.Is(err, syscall.EADDRINUSE) || !slices.Contains(taken.Users, me) {
			t.Errorf("%s %s: %v", tc.network, tc.addr, err)
			continue
		}
		if want := fmt.Sprintf("cannot listen on %s %s: in use by %s", tc.network, tc.addr, me); err.Error() != want {
			t.Errorf("got  %s\nwant %s", err, want)
		}
	}
	free := netip.MustParseAddrPort(u.LocalAddr().String())
	u.Close()
	if err := Probe(t.Context(), "udp", free); err != nil {
		t.Errorf("a free address: %v", err)
	}
	err = Probe(t.Context(), "udp", netip.MustParseAddrPort("192.0.2.1:53"))
	if !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("an address that is not ours: %v", err)
	}
}

func TestHints(t *testing.T) {
	at := netip.MustParseAddrPort("127.0.0.1:53")
	for _, tc := range []struct {
		taken *Taken
		want  string
	}{
		{&Taken{"udp", at, syscall.EADDRINUSE, []string{"systemd-resolve (pid 3)"}}, "DNSStubListener=no"},
		{&Taken{"udp", at, syscall.EADDRINUSE, []string{"dnsmasq (pid 3)"}}, "systemctl disable --now dnsmasq"},
		{&Taken{"udp", at, syscall.EADDRINUSE, nil}, "ss -lnp"},
		{&Taken{"udp", at, syscall.EACCES, nil}, "CAP_NET_BIND_SERVICE"},
		{&Taken{"udp", at, syscall.EADDRNOTAVAIL, nil}, "ip address"},
		{&Taken{"udp", at, syscall.ENOBUFS, nil}, ""},
	} {
		if got := tc.taken.Hint(); !strings.Contains(got, tc.want) || tc.want == "" && got != "" {
			t.Errorf("%v: %q", tc.taken, got)
		}
	}
}

func FuzzHexAddr(f *testing.F) {
	f.Add("0100007F:0035")
	f.Add("00000000000000000000000001000000:0035")
	f.Add("zz")
	f.Fuzz(func(t *testing.T, s string) {
		if a, err := hexAddr(s); err == nil && !a.IsValid() {
			t.Errorf("%q read as the invalid address", s)
		}
	})
}
