package listenlock

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Taken is the error of an address that cannot be bound.
type Taken struct {
	Network string // "udp" or "tcp"
	Addr    netip.AddrPort
	Err     error    // as bind(2) said: syscall.EADDRINUSE, EACCES, EADDRNOTAVAIL, ...
	Users   []string // who has it, as in "dnsmasq (pid 12)"; nil where unknown or not in use
}

// Error says what cannot be bound, why, and who has it.
func (t *Taken) Error() string {
	s := fmt.Sprintf("cannot listen on %s %s: ", t.Network, t.Addr)
	switch {
	case errors.Is(t.Err, syscall.EADDRINUSE) && len(t.Users) > 0:
		return s + "in use by " + strings.Join(t.Users, ", ")
	case errors.Is(t.Err, syscall.EADDRINUSE):
		return s + "in use by another program"
	case errors.Is(t.Err, syscall.EACCES):
		return s + "permission denied"
	case errors.Is(t.Err, syscall.EADDRNOTAVAIL):
		return s + "this host does not have the address"
	}
	return s + t.Err.Error()
}

// Unwrap returns Err.
func (t *Taken) Unwrap() error { return t.Err }

// Hint says what to do, for the programs that people meet on port 53.
func (t *Taken) Hint() string {
	users := strings.Join(t.Users, " ")
	switch {
	case errors.Is(t.Err, syscall.EACCES):
		return "ports below 1024 need root or CAP_NET_BIND_SERVICE; or choose another port (RESOLVERD_PORT=5300 for the default Corefile)"
	case errors.Is(t.Err, syscall.EADDRNOTAVAIL):
		return "`ip address` lists the addresses; `bind` takes interface names too"
	case !errors.Is(t.Err, syscall.EADDRINUSE):
		return ""
	case strings.Contains(users, "systemd-resolve"):
		return "systemd-resolved's stub is in the way: set DNSStubListener=no in /etc/systemd/resolved.conf and restart it, or `bind` other addresses than all"
	case strings.Contains(users, "dnsmasq"):
		return "stop dnsmasq (systemctl disable --now dnsmasq), or `bind` addresses that it does not use"
	case t.Addr.Addr().IsUnspecified():
		return "`bind` the addresses that clients use instead of all; `ss -lnp` shows who listens"
	}
	return "`ss -lnp` as root shows who listens; stop it, or choose another address or port"
}

// Probe binds addr for a moment, without SO_REUSEPORT, so that any other listener is
// seen, one of our own user too. network is "udp" or "tcp". The error is [*Taken].
func Probe(ctx context.Context, network string, addr netip.AddrPort) error {
	var lc net.ListenConfig
	host := addr.String()
	if addr.Addr().IsUnspecified() {
		host = ":" + strconv.Itoa(int(addr.Port())) // both families, as CoreDNS binds it
	}
	var err error
	if network == "udp" {
		var c net.PacketConn
		if c, err = lc.ListenPacket(ctx, network, host); err == nil {
			return c.Close()
		}
	} else {
		var l net.Listener
		if l, err = lc.Listen(ctx, network, host); err == nil {
			return l.Close()
		}
	}
	t := &Taken{Network: network, Addr: addr, Err: err}
	var no syscall.Errno
	if errors.As(err, &no) {
		t.Err = no
		if no == syscall.EADDRINUSE {
			t.Users = Users(network, addr)
		}
	}
	return t
}

// Users names the programs with a socket of the network on addr, or on one that
// overlaps it, as in "dnsmasq (pid 12)"; where the process is another user's and we are
// not root, as in "a program of uid 102".
func Users(network string, addr netip.AddrPort) []string {
	inodes := map[string]string{} // socket inode to uid
	for _, family := range []string{"", "6"} {
		f, err := os.Open("/proc/net/" + network + family)
		if err != nil {
			continue
		}
		sockets(bufio.NewScanner(f), network, addr, inodes)
		f.Close()
	}
	var users []string
	for inode, who := range programs(inodes) {
		users = append(users, who)
		delete(inodes, inode)
	}
	for _, uid := range inodes {
		if who := "a program of uid " + uid; !slices.Contains(users, who) {
			users = append(users, who)
		}
	}
	slices.Sort(users)
	return slices.Compact(users)
}

// sockets reads /proc/net/{udp,tcp}[6]: "sl local_address rem_address st ... uid timeout inode".
func sockets(sc *bufio.Scanner, network string, addr netip.AddrPort, inodes map[string]string) {
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) < 10 || network == "tcp" && f[3] != "0A" { // 0A: LISTEN
			continue
		}
		local, err := hexAddr(f[1])
		if err != nil || local.Port() != addr.Port() {
			continue
		}
		if local.Addr() == addr.Addr().Unmap() || local.Addr().IsUnspecified() || addr.Addr().IsUnspecified() {
			inodes[f[9]] = f[7]
		}
	}
}

// hexAddr reads "0100007F:0035": the address in 32-bit words of the host's byte order.
func hexAddr(s string) (netip.AddrPort, error) {
	a, p, ok := strings.Cut(s, ":")
	raw, err := hex.DecodeString(a)
	if !ok || err != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, fmt.Errorf("listenlock: %q is no address of /proc/net", s)
	}
	for i := 0; i < len(raw); i += 4 {
		binary.BigEndian.PutUint32(raw[i:], binary.NativeEndian.Uint32(raw[i:]))
	}
	addr, ok := netip.AddrFromSlice(raw)
	n, err := strconv.ParseUint(p, 16, 16)
	if !ok || err != nil {
		return netip.AddrPort{}, fmt.Errorf("listenlock: %q is no address of /proc/net", s)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), nil
}

// programs finds the processes that have the sockets open, as far as we may look.
func programs(inodes map[string]string) map[string]string {
	found := map[string]string{}
	fds, err := filepath.Glob("/proc/[0-9]*/fd")
	if err != nil {
		return found
	}
	for _, dir := range fds {
		entries, err := os.ReadDir(dir)
		if err != nil {
			if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return found
		}
		for _, e := range entries {
			to, err := os.Readlink(filepath.Join(dir, e.Name()))
			if err != nil {
				continue
			}
			inode, ok := strings.CutPrefix(to, "socket:[")
			inode = strings.TrimSuffix(inode, "]")
			if _, wanted := inodes[inode]; !ok || !wanted {
				continue
			}
			pid := filepath.Base(filepath.Dir(dir))
			name, err := os.ReadFile(filepath.Join("/proc", pid, "comm"))
			if err != nil {
				continue
			}
			found[inode] = fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), pid)
		}
	}
	return found
}
