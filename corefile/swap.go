package corefile

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/internal/resident"
)

// One Corefile takes the place of another in caddy.Instance.Restart, which Reload
// calls, and stock `reload` too. Both come through the hooks here: begin before the new
// one is parsed, then either failed or served.

// settle is how long connections that were accepted by the old instance may take to
// send their query, before CoreDNS cuts them.
const settle = 150 * time.Millisecond

// maxAwait bounds the wait for a listener's first answer. One that wants a PROXY header
// never gives it.
const maxAwait = time.Second

// maxOffered bounds the Corefiles that were loaded and may yet be started.
const maxOffered = 4

var errSuperseded = errors.New("corefile: another reload came first")

// running is the process's Runner, for what caddy calls without telling whose it is.
var running atomic.Pointer[Runner]

var hookOnce sync.Once

// hook makes caddy ask us for the Corefile and tell us of instances.
func hook() {
	hookOnce.Do(func() {
		caddy.RegisterCaddyfileLoader("resolverd", caddy.LoaderFunc(func(string) (caddy.Input, error) {
			if r := running.Load(); r != nil {
				return r.poll()
			}
			return nil, nil
		}))
		caddy.RegisterEventHook("resolverd", func(event caddy.EventName, info any) error {
			if inst, ok := info.(*caddy.Instance); ok && event == caddy.InstanceStartupEvent {
				if r := running.Load(); r != nil {
					r.served(inst)
				}
			}
			return nil
		})
	})
}

// poll is stock reload's look at the file, each of its intervals. A Corefile that
// cannot be loaded is named once in the log, for `reload` itself would say nothing.
func (r *Runner) poll() (caddy.Input, error) {
	l, err := Load(r.config.Source)
	switch {
	case err != nil:
	case l.same(r.loaded.Load()):
		r.polled.Store(nil)
	case !l.same(r.polled.Load()):
		// Once only: `reload` does not try the same file again.
		if err = r.prepare(context.Background(), l); err == nil {
			r.polled.Store(l)
		}
	}
	if err != nil {
		if last := r.refused.Swap(ptr(err.Error())); last == nil || *last != err.Error() {
			r.log.Error("Corefile changed but is refused; the old one serves on", "error", err)
		}
		return nil, err
	}
	r.refused.Store(nil)
	return r.offer(l), nil
}

func ptr[T any](v T) *T { return &v }

// same says whether CoreDNS would get the same text. o may be nil.
func (l *Loaded) same(o *Loaded) bool { return o != nil && bytes.Equal(l.Body, o.Body) }

// offer notes that l may be started, and returns it for caddy.
func (r *Runner) offer(l *Loaded) caddy.Input {
	r.offeredMu.Lock()
	defer r.offeredMu.Unlock()
	r.offered = append(r.offered, l)
	if n := len(r.offered) - maxOffered; n > 0 {
		r.offered = slices.Delete(r.offered, 0, n)
	}
	return l.input()
}

// loads notes which Corefile the instance that caddy builds is made from.
func (r *Runner) loads(inst *caddy.Instance) {
	r.offeredMu.Lock()
	defer r.offeredMu.Unlock()
	r.pending = inst
	for _, l := range r.offered {
		if input := inst.Caddyfile(); input != nil && bytes.Equal(l.Body, input.Body()) {
			r.loading.Store(l)
		}
	}
}

// begin is called when inst is about to be replaced, whoever wants that. It holds mu
// until failed or served.
func (r *Runner) begin(inst *caddy.Instance) error {
	r.mu.Lock()
	if r.stopped || r.instance != inst {
		// The hooks for a failed restart would restart what this one never stopped.
		inst.OnRestartFailed = nil
		defer r.mu.Unlock()
		if r.stopped {
			return ErrStopped
		}
		return errSuperseded
	}
	resident.Begin()
	return nil
}

// failed is called when the new Corefile was refused or could not be started: the old
// one serves on.
func (r *Runner) failed() {
	r.loading.Store(nil)
	r.report(resident.Abort())
	if r.locks != nil {
		r.locks.Keep(r.loaded.Load().Listeners())
	}
	// What caddy opened for the new instance it forgets without closing, and a socket
	// that shares a port takes its share of the queries with it.
	r.offeredMu.Lock()
	for _, s := range servers(r.pending) {
		s.close()
	}
	r.pending = nil
	r.offeredMu.Unlock()
	runtime.GC() // closes the TCP listener of a server whose UDP socket could not be had
	r.mu.Unlock()
}

// served is called when the new instance answers and the old one, if there was one, has
// stopped.
func (r *Runner) served(inst *caddy.Instance) {
	l := r.loading.Load()
	r.instance = inst
	r.loaded.Store(l)
	r.loading.Store(nil)
	r.offeredMu.Lock()
	r.pending = nil
	r.offeredMu.Unlock()
	r.adopt(inst)
	await(inst, r.log)
	r.report(resident.Commit())
	if r.locks != nil {
		r.locks.Keep(l.Listeners())
	}
	r.warn(l)
	r.mu.Unlock()
}

// adopt puts our hooks into an instance that serves.
func (r *Runner) adopt(inst *caddy.Instance) {
	// An error of one plugin's shutdown would make Restart skip the others' and report a
	// failure, though the new instance serves.
	for i, f := range inst.OnShutdown {
		inst.OnShutdown[i] = func() error {
			if err := f(); err != nil {
				r.log.Warn("a plugin of the old Corefile", "error", err)
			}
			return nil
		}
	}
	inst.OnRestart = slices.Insert(inst.OnRestart, 0, func() error { return r.begin(inst) })
	inst.OnRestartFailed = append(inst.OnRestartFailed, func() error { r.failed(); return nil })

	d := &drain{}
	for _, s := range servers(inst) {
		if s.listener != nil {
			if err := boundStall(s.listener); err != nil {
				r.log.Warn("clients that do not read are not cut off", "error", err)
			}
		}
		switch (*s.server).(type) {
		case *dnsserver.Server, *dnsserver.ServerTLS:
			if s.listener != nil {
				d.listeners = append(d.listeners, s.listener)
			}
			*s.server = soft{(*s.server).(caddy.GracefulServer), d}
		}
	}
}

// server is what an instance keeps of one listener.
type server struct {
	server   *caddy.Server // where caddy keeps it: may be replaced
	listener net.Listener  // nil where it has none
	packet   net.PacketConn
}

// close closes the sockets of a server that was never started.
func (s server) close() {
	if s.listener != nil {
		_ = s.listener.Close() // nothing waits for it
	}
	if s.packet != nil {
		_ = s.packet.Close()
	}
}

// servers opens caddy's list of servers, whose fields it keeps to itself. Should they
// change with a new caddy, the list is empty and only TCP connections that are opened in
// the very moment of a reload suffer; a test says so.
func servers(inst *caddy.Instance) []server {
	if inst == nil {
		return nil
	}
	var out []server
	all := inst.Servers()
	for i := range all {
		v := reflect.ValueOf(&all[i]).Elem()
		s, l, p := v.FieldByName("server"), v.FieldByName("listener"), v.FieldByName("packet")
		if !s.IsValid() || s.Type() != reflect.TypeFor[caddy.Server]() || !l.IsValid() || l.Type() != reflect.TypeFor[net.Listener]() ||
			!p.IsValid() || p.Type() != reflect.TypeFor[net.PacketConn]() {
			continue
		}
		out = append(out, server{
			server:   (*caddy.Server)(unsafe.Pointer(s.UnsafeAddr())),
			listener: *(*net.Listener)(unsafe.Pointer(l.UnsafeAddr())),
			packet:   *(*net.PacketConn)(unsafe.Pointer(p.UnsafeAddr())),
		})
	}
	return out
}

// drain stops an instance's TCP listeners and gives what they accepted the time to send
// its query: miekg/dns cuts connections off whose query it has not read when it is shut
// down, and the client would have to ask again (RFC 7766, section 6.2.4).
type drain struct {
	once      sync.Once
	listeners []net.Listener
}

func (d *drain) wait() {
	d.once.Do(func() {
		if len(d.listeners) == 0 {
			return
		}
		for _, l := range d.listeners {
			// The new instance has a duplicate of the socket: what waits in its queue is not lost.
			_ = l.Close() // dnsserver closes it once more
		}
		<-time.After(settle)
	})
}

// soft is a server that drains its TCP connections before it stops.
type soft struct {
	caddy.GracefulServer
	drain *drain
}

// Stop implements caddy.Stopper.
func (s soft) Stop() error {
	s.drain.wait()
	return s.GracefulServer.Stop()
}

// await waits until every plain DNS listener of inst answers: caddy has begun to start
// them in goroutines, and a server that is stopped before it started never stops.
func await(inst *caddy.Instance, log *slog.Logger) {
	var wg sync.WaitGroup
	all := inst.Servers()
	for i, s := range servers(inst) {
		if g, ok := (*s.server).(soft); !ok {
			continue
		} else if _, plain := g.GracefulServer.(*dnsserver.Server); !plain {
			continue
		}
		for network, addr := range map[string]net.Addr{"udp": all[i].LocalAddr(), "tcp": all[i].Addr()} {
			if addr == nil {
				continue
			}
			wg.Go(func() {
				if err := greet(network, reachable(addr)); err != nil {
					log.Debug("no greeting from an own listener", "network", network, "address", addr.String(), "error", err)
				}
			})
		}
	}
	wg.Wait()
}

// greet sends a query of opcode STATUS, to which miekg/dns says NOTIMP before any
// plugin sees it.
func greet(network, addr string) error {
	m := &dns.Msg{MsgHdr: dns.MsgHdr{Id: dns.Id(), Opcode: dns.OpcodeStatus}}
	m.Question = []dns.Question{{Name: ".", Qtype: dns.TypeNS, Qclass: dns.ClassINET}}
	ctx, cancel := context.WithTimeout(context.Background(), maxAwait)
	defer cancel()
	var err error
	for ctx.Err() == nil {
		c := &dns.Client{Net: network, Timeout: maxAwait / 5}
		if _, _, err = c.ExchangeContext(ctx, m, addr); err == nil {
			return nil
		}
	}
	return err
}

// reachable is where this host reaches a listener.
func reachable(a net.Addr) string {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil || !ap.Addr().IsUnspecified() {
		return a.String()
	}
	if ap.Addr().Is4() {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), ap.Port()).String()
	}
	return netip.AddrPortFrom(netip.IPv6Loopback(), ap.Port()).String()
}
