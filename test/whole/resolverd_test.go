package whole

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
	"github.com/miekg/dns"
)

// Where the program listens in these tests.
const (
	listen  = "127.0.0.1:5300"
	apiAddr = "127.0.0.1:8553"
)

// program is a running resolverd.
type program struct {
	*process
	bin, data, corefile string
	api                 *consul.Client
}

// start runs `resolverd run` with a Corefile, and further lines of resolverd.yaml, and
// waits until it answers and its API writes.
func start(t testing.TB, corefile string, settings ...string) *program {
	t.Helper()
	return startIn(t, shortDir(t), corefile, settings...)
}

// shortDir is a temporary directory whose path is short enough for Unix sockets.
func shortDir(t testing.TB) string {
	t.Helper()
	d := t.TempDir()
	if len(d) > 70 {
		d = filepath.Join("/tmp", "rd"+strings.ReplaceAll(filepath.Base(filepath.Dir(d)), "/", ""))
		if len(d) > 60 {
			d = d[:60]
		}
		must(t, "rm", "-rf", d)
		must(t, "mkdir", "-p", d)
		t.Cleanup(func() { must(t, "rm", "-rf", d) })
	}
	return d
}

func startIn(t testing.TB, dir, corefile string, settings ...string) *program {
	t.Helper()
	p := &program{bin: repository(t, "bin", "resolverd"), data: filepath.Join(dir, "data"), corefile: filepath.Join(dir, "Corefile")}
	if !isFile(p.bin) {
		t.Fatal("bin/resolverd is not there: run `make build`")
	}
	write(t, p.corefile, corefile)
	config := write(t, filepath.Join(dir, "resolverd.yaml"), "node:\n  name: n1\n  address: 127.0.0.1\n"+strings.Join(settings, "\n")+"\n")
	p.process = spawn(t, p.bin, "run", "--config", config, "--corefile", p.corefile, "--data-dir", p.data, "--api", apiAddr)
	c := consul.DefaultConfig()
	c.Address = apiAddr
	client, err := consul.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	p.api = client
	p.waitAPI(t)
	p.waitDNS(t)
	return p
}

func (p *program) waitAPI(t testing.TB) {
	t.Helper()
	eventually(t, 20*time.Second, "the API answers", func() error {
		if p.ended() {
			t.Fatalf("resolverd ended: %v", p.err)
		}
		l, err := p.api.Status().Leader()
		if err == nil && l == "" {
			err = errNot
		}
		return err
	})
}

func (p *program) waitDNS(t testing.TB) {
	t.Helper()
	eventually(t, 20*time.Second, "DNS answers", func() error {
		if p.ended() {
			t.Fatalf("resolverd ended: %v", p.err)
		}
		_, err := exchange("udp", query("localhost.", dns.TypeA))
		return err
	})
}

func (p *program) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// cli runs a subcommand against this program.
func (p *program) cli(t testing.TB, args ...string) string {
	t.Helper()
	return must(t, p.bin, args...)
}

// register enters an instance through the real Consul client.
func (p *program) register(t testing.TB, edit func(*consul.AgentServiceRegistration)) {
	t.Helper()
	r := &consul.AgentServiceRegistration{Name: "web", ID: "web-1", Address: "10.0.0.1", Port: 8080}
	if edit != nil {
		edit(r)
	}
	if err := p.api.Agent().ServiceRegister(r); err != nil {
		t.Fatal(err)
	}
}

func query(name string, qtype uint16) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), qtype)
	return m
}

func exchange(network string, m *dns.Msg) (*dns.Msg, error) {
	return exchangeAt(network, listen, "", m)
}

// exchangeAt sends m to an address, from a source address where one is given.
func exchangeAt(network, to, from string, m *dns.Msg) (*dns.Msg, error) {
	c := &dns.Client{Net: network, Timeout: 3 * time.Second, UDPSize: 65535}
	if from != "" {
		a := netip.MustParseAddr(from)
		c.Dialer = &net.Dialer{Timeout: 3 * time.Second}
		if network == "tcp" {
			c.Dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0))
		} else {
			c.Dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0))
		}
	}
	r, _, err := c.Exchange(m, to)
	return r, err
}

// ask returns the RCODE and the rdata of the answers to a query, sorted as received.
func ask(t testing.TB, name string, qtype uint16) (string, []string) {
	t.Helper()
	r, err := exchange("udp", query(name, qtype))
	if err != nil {
		t.Fatalf("%s %s: %v", name, dns.TypeToString[qtype], err)
	}
	return dns.RcodeToString[r.Rcode], rdata(r.Answer)
}

func rdata(rrs []dns.RR) []string {
	var out []string
	for _, rr := range rrs {
		out = append(out, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return out
}

// expect fails unless the query gets this RCODE and exactly these answers, in any order,
// within the bound.
func expect(t testing.TB, bound time.Duration, name string, qtype uint16, rcode string, want ...string) {
	t.Helper()
	eventually(t, bound, fmt.Sprintf("%s %s gives %s %v", name, dns.TypeToString[qtype], rcode, want), func() error {
		r, err := exchange("udp", query(name, qtype))
		if err != nil {
			return err
		}
		got := rdata(r.Answer)
		if dns.RcodeToString[r.Rcode] != rcode || !sameSet(got, want) {
			return fmt.Errorf("got %s %v", dns.RcodeToString[r.Rcode], got)
		}
		return nil
	})
}

func sameSet(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	n := map[string]int{}
	for _, s := range a {
		n[s]++
	}
	for _, s := range b {
		if n[s]--; n[s] < 0 {
			return false
		}
	}
	return true
}

// ede returns the Extended DNS Errors of a response (RFC 8914).
func ede(r *dns.Msg) []*dns.EDNS0_EDE {
	var out []*dns.EDNS0_EDE
	if o := r.IsEdns0(); o != nil {
		for _, x := range o.Option {
			if e, ok := x.(*dns.EDNS0_EDE); ok {
				out = append(out, e)
			}
		}
	}
	return out
}
