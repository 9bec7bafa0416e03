package listenlock

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Set holds the locks on the addresses of one process. It is safe for concurrent use.
//
// An address is locked by its own file, and shares a lock on its port's "any" file; an
// unspecified address (0.0.0.0 or ::) locks the "any" file alone for itself. So the
// second copy is refused whichever of the two it wants.
type Set struct {
	dir, command string
	space        uint64 // inode of the network namespace

	mu    sync.Mutex // guards the maps
	addrs map[netip.AddrPort]*os.File
	ports map[uint16]*port
}

type port struct {
	any   *os.File
	whole bool // locked for an unspecified address
}

// NewSet returns an empty set whose files are in dir (see [Dir]). command names us to
// whom it refuses.
func NewSet(dir, command string) (*Set, error) {
	fi, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("listenlock: %w", err)
	}
	s := &Set{dir: dir, command: command, addrs: map[netip.AddrPort]*os.File{}, ports: map[uint16]*port{}}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		s.space = st.Ino
	}
	return s, nil
}

// Add locks the addresses that the set does not hold yet. Where one is held by another
// process the error is [*Held], and nothing was added. Port 0 is skipped: the system
// will choose a free one.
func (s *Set) Add(addrs []netip.AddrPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.held()
	for _, a := range addrs {
		a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		if a.Port() == 0 {
			continue
		}
		if err := s.add(a); err != nil {
			s.keep(before)
			return err
		}
	}
	return nil
}

// Keep gives up the locks of all addresses but these.
func (s *Set) Keep(addrs []netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep(addrs)
}

// Close gives all locks up.
func (s *Set) Close() { s.Keep(nil) }

// held lists what is held; an unspecified address as ::.
func (s *Set) held() []netip.AddrPort {
	var out []netip.AddrPort
	for a := range s.addrs {
		out = append(out, a)
	}
	for n, p := range s.ports {
		if p.whole {
			out = append(out, netip.AddrPortFrom(netip.IPv6Unspecified(), n))
		}
	}
	return out
}

func (s *Set) add(a netip.AddrPort) error {
	p := s.ports[a.Port()]
	if p == nil {
		f, err := open(s.path("any", a.Port()))
		if err != nil {
			return err
		}
		p = &port{any: f}
		s.ports[a.Port()] = p
	}
	if a.Addr().IsUnspecified() {
		if p.whole {
			return nil
		}
		if err := flock(p.any, unix.LOCK_EX); err != nil {
			// A failed conversion may have lost the shared lock.
			if again := flock(p.any, unix.LOCK_SH); again != nil && s.uses(a.Port()) {
				return fmt.Errorf("listenlock: %w", again)
			}
			if errors.Is(err, unix.EWOULDBLOCK) {
				return &Held{What: fmt.Sprintf("port %d", a.Port()), Holder: s.holders(a.Port(), p.any)}
			}
			return fmt.Errorf("listenlock: %w", err)
		}
		p.whole = true
		return s.sign(p.any)
	}
	if s.addrs[a] != nil {
		return nil
	}
	if !p.whole {
		if err := flock(p.any, unix.LOCK_SH); err != nil {
			if errors.Is(err, unix.EWOULDBLOCK) {
				return &Held{What: fmt.Sprintf("port %d of every address", a.Port()), Holder: readHolder(p.any)}
			}
			return fmt.Errorf("listenlock: %w", err)
		}
	}
	f, err := s.lock(a)
	if err != nil {
		return err
	}
	s.addrs[a] = f
	return s.sign(f)
}

// lock opens and locks the file of a single address. Whoever held it may remove it in
// between: then the lock is on a file without a name, and the next is tried.
func (s *Set) lock(a netip.AddrPort) (*os.File, error) {
	path := s.path(a.Addr().String(), a.Port())
	for {
		f, err := open(path)
		if err != nil {
			return nil, err
		}
		if err := flock(f, unix.LOCK_EX); err != nil {
			defer f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, &Held{What: "address " + a.String(), Holder: readHolder(f)}
			}
			return nil, fmt.Errorf("listenlock: %w", err)
		}
		mine, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("listenlock: %w", err)
		}
		if named, err := os.Lstat(path); err == nil && os.SameFile(mine, named) {
			return f, nil
		}
		f.Close()
	}
}

func (s *Set) sign(f *os.File) error {
	if err := writeHolder(f, s.command, time.Now()); err != nil {
		return fmt.Errorf("listenlock: %w", err)
	}
	return nil
}

func (s *Set) uses(n uint16) bool {
	for a := range s.addrs {
		if a.Port() == n {
			return true
		}
	}
	return false
}

func (s *Set) keep(addrs []netip.AddrPort) {
	var want []netip.AddrPort
	whole := map[uint16]bool{}
	for _, a := range addrs {
		if a.Addr().IsUnspecified() {
			whole[a.Port()] = true
		}
		want = append(want, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
	}
	for a, f := range s.addrs {
		if !slices.Contains(want, a) {
			// While it is locked nobody else can have taken it: see lock.
			_ = os.Remove(s.path(a.Addr().String(), a.Port()))
			f.Close()
			delete(s.addrs, a)
		}
	}
	for n, p := range s.ports {
		switch {
		case whole[n] && p.whole:
		case s.uses(n):
			if p.whole { // down to a shared lock, which nobody can refuse to its holder
				p.whole = false
				_ = flock(p.any, unix.LOCK_SH)
			}
		default:
			p.any.Close()
			delete(s.ports, n)
		}
	}
}

// path is as in 4026531840-127.0.0.1-53.lock; colons of IPv6 become underlines.
func (s *Set) path(addr string, n uint16) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r == '.', r == '-':
			return r
		}
		return '_'
	}, addr)
	return filepath.Join(s.dir, fmt.Sprintf("%d-%s-%d.lock", s.space, clean, n))
}

// holders finds who holds the port: the one that locked all of it, or else one of those
// that locked an address of it.
func (s *Set) holders(n uint16, any *os.File) Holder {
	names, err := filepath.Glob(filepath.Join(s.dir, fmt.Sprintf("%d-*-%d.lock", s.space, n)))
	if err != nil {
		return readHolder(any)
	}
	own := []string{s.path("any", n)}
	for a := range s.addrs {
		own = append(own, s.path(a.Addr().String(), a.Port()))
	}
	for _, name := range names {
		if slices.Contains(own, name) {
			continue
		}
		f, err := open(name)
		if err != nil {
			continue
		}
		err = flock(f, unix.LOCK_SH)
		h := readHolder(f)
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return h
		}
	}
	return readHolder(any)
}
