package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"

	"github.com/resolverd/resolverd/registry"
)

var sameHost = cmp.Options{
	cmp.Comparer(func(a, b registry.Host) bool { return a == b }),
	cmpopts.EquateEmpty(),
}

// TestFileShapes reads one service in each of the forms that people have.
func TestFileShapes(t *testing.T) {
	for name, text := range map[string]string{
		"API":         `{"Name": "web", "ID": "w1", "Port": 80, "Tags": ["a"], "Check": {"HTTP": "http://127.0.0.1/", "Interval": "10s"}}`,
		"API, checks": "{\n\"Name\": \"web\", \"ID\": \"w1\", \"Port\": 80, \"Tags\": [\"a\"],\n\"Checks\": [{\"HTTP\": \"http://127.0.0.1/\", \"Interval\": \"10s\"}]}\n",
		"config":      `{"service": {"name": "web", "id": "w1", "port": 80, "tags": ["a"], "check": {"http": "http://127.0.0.1/", "interval": "10s"}}}`,
		"configs":     `{"services": [{"name": "web", "id": "w1", "port": 80, "tags": ["a"], "checks": [{"http": "http://127.0.0.1/", "interval": "10s"}]}]}`,
		"yaml":        "service:\n  name: web\n  id: w1\n  port: 80\n  tags: [a]\n  check:\n    http: http://127.0.0.1/\n    interval: 10s\n",
		"bare yaml":   "name: web\nid: w1\nport: 80\ntags: [a]\ncheck:\n  http: http://127.0.0.1/\n  interval: 10s\n",
	} {
		t.Run(name, func(t *testing.T) {
			defs, err := fromFile("-", strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			if len(defs) != 1 || len(defs[0].checks) != 1 {
				t.Fatalf("%d definitions", len(defs))
			}
			want := registry.Instance{
				Service: "web", ID: "w1", Port: 80, Tags: []string{"a"}, Weights: registry.DefaultWeights,
			}
			if d := cmp.Diff(want, *defs[0].instance, sameHost, cmpopts.IgnoreFields(registry.Instance{}, "Priority")); d != "" {
				t.Errorf("instance (-want +got):\n%s", d)
			}
			c := defs[0].checks[0].Definition
			if c.Kind != registry.CheckHTTP || c.URL != "http://127.0.0.1/" || c.Interval.Std() != 10*time.Second {
				t.Errorf("check %+v", c)
			}
		})
	}
}

func TestFileFaults(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", "(stdin): is empty"},
		{"no service", "check: {name: x, tcp: \"a:1\"}\n", "(stdin) has no service"},
		{"bare yaml, line", "name: web\nport: x\n", "(stdin):2: "},
		{"bare json, line", "{\"Name\": \"web\",\n\n\"Port\": \"x\"}", "(stdin):3: "},
		{"no yaml", "{\"Name\": ", "(stdin):1: "},
		{"two faults", "service:\n  nam: web\n  prot: 80\n", "(stdin):3: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := fromFile("-", strings.NewReader(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want %q in it", err, tt.want)
			}
			if code := report(discard{}, err); code != exitUsage {
				t.Errorf("exit code %d", code)
			}
		})
	}
	_, err := fromFile(filepath.Join(t.TempDir(), "nowhere"), nil)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// TestFlags makes a definition of every flag.
func TestFlags(t *testing.T) {
	var s serviceFlags
	fs := pflag.NewFlagSet("register", pflag.ContinueOnError)
	s.add(fs)
	err := fs.Parse(strings.Fields("--name web --id w1 --address 2001:db8::1 --port 80 --tag a,b --tag c --meta k=v=w " +
		"--weight 10 --warning-weight 0 --priority 2 --zone z --check-http http://h/ --check-tcp h:1 --check-udp h:2 --check-grpc h:3/s " +
		"--check-ttl 30s --check-script /bin/true --check-interval 7s --check-timeout 2s --deregister-after 1m --status passing"))
	if err != nil {
		t.Fatal(err)
	}
	defs, err := s.definitions(fs, nil)
	if err != nil {
		t.Fatal(err)
	}
	host, _ := registry.ParseHost("2001:db8::1")
	want := &registry.Instance{
		Service: "web", ID: "w1", Address: host, Port: 80, Tags: []string{"a", "b", "c"}, Meta: map[string]string{"k": "v=w"},
		Weights: registry.Weights{Passing: 10}, Priority: 2, Zone: "z",
	}
	if d := cmp.Diff(want, defs[0].instance, sameHost); d != "" {
		t.Errorf("instance (-want +got):\n%s", d)
	}
	var got []registry.CheckDefinition
	for _, c := range defs[0].checks {
		if c.Status != registry.Passing {
			t.Errorf("status %q", c.Status)
		}
		got = append(got, *c.Definition)
	}
	with := func(d registry.CheckDefinition) registry.CheckDefinition {
		if d.Kind != registry.CheckTTL {
			d.Interval = registry.Duration(7 * time.Second)
		}
		d.Timeout, d.DeregisterCriticalAfter = registry.Duration(2*time.Second), registry.Duration(time.Minute)
		return d
	}
	checks := []registry.CheckDefinition{
		with(registry.CheckDefinition{Kind: registry.CheckHTTP, URL: "http://h/"}),
		with(registry.CheckDefinition{Kind: registry.CheckTCP, Target: "h:1"}),
		with(registry.CheckDefinition{Kind: registry.CheckUDP, Target: "h:2"}),
		with(registry.CheckDefinition{Kind: registry.CheckGRPC, Target: "h:3/s"}),
		with(registry.CheckDefinition{Kind: registry.CheckTTL, TTL: registry.Duration(30 * time.Second)}),
		with(registry.CheckDefinition{Kind: registry.CheckScript, Args: []string{"/bin/true"}}),
	}
	if d := cmp.Diff(checks, got); d != "" {
		t.Errorf("checks (-want +got):\n%s", d)
	}
}

// FuzzFile looks for a file that makes the command panic.
func FuzzFile(f *testing.F) {
	for _, s := range []string{"", "name: web\n", `{"Name": "web"}`, "service: {name: x}\n", "- a\n", "name: [\n", "\tname: x", "{\"name\": 1}\n---\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		defs, err := fromFile("-", strings.NewReader(text))
		if err == nil && len(defs) == 0 {
			t.Error("neither definitions nor an error")
		}
	})
}
