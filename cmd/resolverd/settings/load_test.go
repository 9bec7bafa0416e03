package settings

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"
)

var sameAddr = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmpopts.EquateEmpty(),
}

// load writes text to a file where it is not empty, and loads.
func load(t *testing.T, text string, env []string, args ...string) (Loaded, error) {
	t.Helper()
	src := Source{Environ: env}
	src.File = filepath.Join(t.TempDir(), "resolverd.yaml")
	if err := os.WriteFile(src.File, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	src.Flags = pflag.NewFlagSet("test", pflag.ContinueOnError)
	AddFlags(src.Flags)
	if err := src.Flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return Load(src)
}

func TestPrecedence(t *testing.T) {
	const file = "node:\n  name: file\n  zone: file\n  address: 10.0.0.1\nlog: {level: debug}\n"
	env := []string{"RESOLVERD_NODE_NAME=env", "RESOLVERD_NODE_ZONE=env", "RESOLVERD_LOG_FORMAT="}
	l, err := load(t, file, env, "--name=flag")
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Node = Node{Name: "flag", Zone: "env", Address: netip.MustParseAddr("10.0.0.1")}
	want.Log.Level = slog.LevelDebug
	if d := cmp.Diff(want, l.Settings, sameAddr); d != "" {
		t.Errorf("settings (-want +got):\n%s", d)
	}
}

func TestEveryKeyIsRead(t *testing.T) {
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	core := filepath.Join(dir, "Corefile")
	if err := os.WriteFile(core, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("DIR", dir).Replace(`
node:
  name: web1
  address: "2001:db8::1"
  zone: rack-7
  meta: {Rack: R7, "with.dot": x}
datacenter: berlin
data_dir: DIR/data/
corefile: DIR/Corefile
services_dir: DIR
dns_port: 5353
api:
  address: "[::1]:8500"
  token_file: DIR/token
checks:
  interval: 10s
  timeout: 2s
  api_scripts: yes
log:
  level: WARN
  format: json
answerer:
  user: root
`)
	l, err := load(t, text, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{
		Node: Node{
			Name: "web1", Address: netip.MustParseAddr("2001:db8::1"), Zone: "rack-7",
			Meta: map[string]string{"Rack": "R7", "with.dot": "x"},
		},
		Datacenter: "berlin", DataDir: dir + "/data", Corefile: core, ServicesDir: dir, DNSPort: 5353,
		API:      API{Address: netip.MustParseAddrPort("[::1]:8500"), TokenFile: token, Token: "s3cret"},
		Checks:   Checks{Interval: 10 * time.Second, Timeout: 2 * time.Second, APIScripts: true},
		Log:      Log{Level: slog.LevelWarn, Format: "json"},
		Answerer: Answerer{User: "root"},
	}
	if d := cmp.Diff(want, l.Settings, sameAddr); d != "" {
		t.Errorf("settings (-want +got):\n%s", d)
	}
	for _, k := range Keys() {
		if !strings.Contains(text, k.Name[strings.LastIndexByte(k.Name, '.')+1:]+":") {
			t.Errorf("this test does not set %s", k.Name)
		}
	}
}

// TestFaults gives inputs with all that is found in them, at once.
func TestFaults(t *testing.T) {
	tests := []struct {
		name string
		text string
		env  []string
		args []string
		want []string // "where: key: text | hint", FILE being the file
	}{
		{name: "empty file"},
		{name: "only a comment", text: "# nothing\n"},
		{name: "null sections", text: "api:\nnode:\n  meta:\n"},
		{
			name: "everything at once",
			text: "node:\n  nam: x\n  address: 10.0.0\nlogs:\n  level: info\nchecks:\n  interval: 5\naddrezz: 1.2.3.4\ndns_port: 70000\n",
			env:  []string{"RESOLVERD_LOG_LEVEL=loud"},
			args: []string{"--api=localhost"},
			want: []string{
				`FILE:2: node.nam: no such setting | did you mean "name"?`,
				`FILE:4: logs: no such setting | did you mean "log"?`,
				`FILE:8: addrezz: no such setting | did you mean "node.address" or "api.address"?`,
				`FILE:3: node.address: "10.0.0" is no IP address`,
				`FILE:9: dns_port: "70000" is no port; ports are 1 to 65535`,
				`--api: api.address: "localhost" is not of the form address:port, as in 127.0.0.1:8553`,
				`FILE:7: checks.interval: "5" is no duration; write a number and a unit, as 500ms, 5s or 1m`,
				`RESOLVERD_LOG_LEVEL: log.level: "loud" is no level; levels are debug, info, warn and error`,
			},
		},
		{
			name: "a key in the wrong section",
			text: "log:\n  data_dir: /x\nnode:\n  level: info\ntoken_file: /x\n",
			want: []string{
				`FILE:2: log.data_dir: no such setting | did you mean "data_dir"?`,
				`FILE:4: node.level: no such setting | did you mean "log.level"?`,
				`FILE:5: token_file: no such setting | did you mean "api.token_file"?`,
			},
		},
		{
			name: "twice, wrong shapes",
			text: "datacenter: a\ndatacenter: b\nnode: [x]\nlog: text\nchecks:\n  timeout: [1s]\n",
			want: []string{
				"FILE:2: datacenter: written twice, first in line 1",
				"FILE:3: node must hold `key: value` lines, not a list",
				"FILE:4: log must hold `key: value` lines, not \"text\"",
				"FILE:6: checks.timeout: one value expected, not a list",
			},
		},
		{
			name: "no yaml",
			text: "node:\n\tname: x\n",
			want: []string{"FILE:2: yaml: found character that cannot start any token"},
		},
		{
			name: "a list", text: "- a\n",
			want: []string{"FILE:1: the file must hold `key: value` lines, not a list"},
		},
		{
			name: "two documents", text: "dns_port: 54\n---\ndns_port: 55\n",
			want: []string{"FILE:2: a second document; everything belongs into one | take out the line ---"},
		},
		{
			name: "off loopback without a token",
			text: "api:\n  address: 0.0.0.0:8553\nchecks:\n  api_scripts: true\n",
			want: []string{
				"FILE:2: api.address: 0.0.0.0:8553 is not loopback, and an API off loopback needs a token | set api.token_file or --api-token-file",
				"FILE:4: checks.api_scripts: script checks over the API need a token | set api.token_file or --api-token-file",
			},
		},
		{
			name: "the same by flag", args: []string{"--api=10.0.0.1:1"},
			want: []string{"--api: api.address: 10.0.0.1:1 is not loopback, and an API off loopback needs a token | set api.token_file or --api-token-file"},
		},
		{
			name: "API addresses",
			text: "api:\n  address: :8553\n",
			want: []string{`FILE:2: api.address: ":8553" names no address; for all of them write 0.0.0.0:8553`},
		},
		{
			name: "bounds",
			text: "checks:\n  interval: 1ms\n  timeout: 2h\nnode:\n  name: a b\n  address: 0.0.0.0\ndatacenter: DC1\ndata_dir: here\nlog:\n  format: xml\nanswerer:\n  user: no-such-user\n",
			want: []string{
				`FILE:8: data_dir: "here" is not an absolute path`,
				`FILE:5: node.name: "a b" holds a space, a slash or a control character`,
				"FILE:6: node.address: 0.0.0.0 is nobody's address | write the address by which other hosts reach this one",
				`FILE:7: datacenter: "DC1" is no label in lower case | letters, digits and hyphens, as in dc1`,
				"FILE:2: checks.interval: 1ms is out of bounds | 100ms to 24h0m0s",
				"FILE:3: checks.timeout: 2h0m0s is out of bounds | 10ms to 1h0m0s",
				`FILE:10: log.format: "xml" is no format | text or json`,
				`FILE:12: answerer.user: there is no user "no-such-user" | adduser --system --group no-such-user`,
			},
		},
		{
			name: "files that are not there",
			text: "corefile: /nowhere/Corefile\nservices_dir: /nowhere\napi:\n  token_file: /nowhere/token\n",
			want: []string{
				"FILE:4: api.token_file: /nowhere/token: no such file or directory",
				"FILE:1: corefile: /nowhere/Corefile is not there or no file",
				"FILE:2: services_dir: /nowhere is not there or no directory | mkdir /nowhere",
			},
		},
		{
			name: "a long data directory", text: "data_dir: /" + strings.Repeat("x", 90) + "\n",
			want: []string{"FILE:1: data_dir: 91 octets are too many for the sockets in it | at most 90"},
		},
		{
			name: "meta", text: "node:\n  meta:\n    a: [1]\n    \"\": x\n    b: 1\n    b: 2\n",
			want: []string{
				"FILE:3: node.meta.a: one value expected, not a list",
				"FILE:4: node.meta.: a key has 1 to 128 octets",
				"FILE:6: node.meta.b: written twice",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := load(t, tt.text, tt.env, tt.args...)
			var faults Faults
			if err != nil && !errors.As(err, &faults) {
				t.Fatal(err)
			}
			var got []string
			for _, f := range faults {
				s := strings.ReplaceAll(f.String(), l.File, "FILE")
				if f.Hint != "" {
					s += " | " + f.Hint
				}
				got = append(got, s)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("faults (-want +got):\n%s", d)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := load(t, "", []string{"RESOLVERD_NODE_NAM=x", "RESOLVERD_PORT=tcp://10.0.0.1:53", "RESOLVERD_SERVICE_HOST=10.0.0.1", "HOME=/"}, "--api-token-file="+token)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"environment variable RESOLVERD_NODE_NAM is no setting; did you mean RESOLVERD_NODE_NAME?",
		token + " can be read by others; chmod 600 it",
	}
	if d := cmp.Diff(want, l.Warnings); d != "" {
		t.Errorf("warnings (-want +got):\n%s", d)
	}
}

func TestRelativePathsOfFlags(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	l, err := load(t, "", nil, "--data-dir=x/../y")
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(wd, "y"); l.DataDir != want {
		t.Errorf("data dir is %s, want %s", l.DataDir, want)
	}
}

func TestMissingFile(t *testing.T) {
	_, err := Load(Source{File: "/nowhere/resolverd.yaml"})
	if want := "settings: read /nowhere/resolverd.yaml: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestNearest(t *testing.T) {
	words := []string{"register", "deregister", "list", "show", "watch", "maintenance"}
	for word, want := range map[string]string{
		"lst": "list", "lsit": "list", "regsiter": "register", "deregistr": "deregister", "maint": "maintenance",
		"SHOW": "show", "x": "", "banana": "",
	} {
		if got := Nearest(word, words); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

// FuzzFile looks for a file that makes Load panic, or pass with settings that Validate
// refuses.
func FuzzFile(f *testing.F) {
	f.Add("node:\n  name: x\n  meta: {a: b}\n")
	f.Add("a: &a {b: *a}\n")
	f.Add("checks: {interval: 5s}\napi: {address: ::1}\n---\n")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Load(Source{File: path})
		if err == nil {
			if f := l.Settings.Validate(); f != nil {
				t.Errorf("loaded, but: %v", f)
			}
		}
	})
}
