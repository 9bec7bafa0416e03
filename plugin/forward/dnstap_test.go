package forward

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/dnstap"
	tapmsg "github.com/dnstap/golang-dnstap"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"google.golang.org/protobuf/proto"
)

// start runs a server from a Corefile with our forward in it, and returns the address
// of its first UDP listener.
func start(t *testing.T, corefile string) (*caddy.Instance, string) {
	t.Helper()
	dnsserver.Directives = []string{"bind", "dnstap", "forward"}
	dnsserver.Quiet, caddy.Quiet = true, true
	inst, err := caddy.Start(caddy.CaddyfileInput{Filepath: "Corefile", ServerTypeName: "dns", Contents: []byte(corefile)})
	if err != nil {
		t.Fatal(err)
	}
	return inst, inst.Servers()[0].LocalAddr().String()
}

func stop(t *testing.T, inst *caddy.Instance) {
	t.Helper()
	inst.ShutdownCallbacks()
	if err := inst.Stop(); err != nil {
		t.Error(err)
	}
}

// receiver is the other end of a dnstap socket; it takes one connection.
func receiver(t *testing.T) (string, <-chan []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tap.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	out, done := make(chan []byte, 64), make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		in, err := tapmsg.NewFrameStreamInput(c, true)
		if err != nil {
			return
		}
		go in.ReadInto(out)
		in.Wait()
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return path, out
}

// Each attempt is told to dnstap as CoreDNS does it: a query, and a response if there
// was one, with both ends of the connection.
func TestDnstap(t *testing.T) {
	sock, out := receiver(t)
	good, dead := answering(t, withA("192.0.2.1")), closedPort(t)
	inst, addr := start(t, fmt.Sprintf(`.:0 {
		bind 127.0.0.3
		dnstap %s full
		forward . %s %s {
			policy sequential
			read_timeout 1998ms
		}
	}`, sock, dead, good))
	defer stop(t, inst)
	q := query("example.org.", dns.TypeA)
	resp, _, err := new(dns.Client).Exchange(q, addr)
	if err != nil || len(resp.Answer) != 1 {
		t.Fatalf("response %v, error %v", resp, err)
	}

	goodPort, deadPort := netip.MustParseAddrPort(good).Port(), netip.MustParseAddrPort(dead).Port()
	var got []string
	for len(got) < 3 {
		select {
		case frame := <-out:
			d := new(tapmsg.Dnstap)
			if err := proto.Unmarshal(frame, d); err != nil {
				t.Fatal(err)
			}
			m := d.GetMessage()
			kind := m.GetType().String()
			if kind == "CLIENT_QUERY" || kind == "CLIENT_RESPONSE" {
				continue
			}
			got = append(got, fmt.Sprintf("%s %s to %d", kind, m.GetSocketProtocol(), m.GetResponsePort()))
			raw := m.GetQueryMessage()
			if kind == "FORWARDER_RESPONSE" {
				raw = m.GetResponseMessage()
				if m.GetQueryPort() == 0 || len(m.GetQueryAddress()) == 0 || m.GetResponseTimeSec() == 0 {
					t.Errorf("%s lacks our end or its time: %v", kind, m)
				}
			}
			packet := new(dns.Msg)
			if err := packet.Unpack(raw); err != nil || packet.Id != q.Id || packet.Question[0] != q.Question[0] {
				t.Errorf("%s carries %v (%v)", kind, packet, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no more than %v", got)
		}
	}
	want := []string{
		fmt.Sprintf("FORWARDER_QUERY UDP to %d", deadPort),
		fmt.Sprintf("FORWARDER_QUERY UDP to %d", goodPort),
		fmt.Sprintf("FORWARDER_RESPONSE UDP to %d", goodPort),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
}
