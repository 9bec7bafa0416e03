// Package structure holds the tests of the tree itself: who may import whom.
package structure

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/resolverd/resolverd/"

// pkg is what `go list -json` tells of a package.
type pkg struct {
	ImportPath string
	Imports    []string
}

// rule forbids imports to the packages below from. A path counts with all below it;
// except lists what is allowed all the same.
type rule struct {
	name   string
	from   []string
	except []string // packages below from that the rule does not bind
	forbid []string
	allow  []string // imports below forbid that are allowed
}

var (
	coredns = []string{"github.com/coredns/coredns", "github.com/coredns/caddy"}
	etcd    = []string{"go.etcd.io/etcd", "go.etcd.io/raft", "go.etcd.io/bbolt"}
)

func ours(rooms ...string) []string {
	for i := range rooms {
		rooms[i] = module + rooms[i]
	}
	return rooms
}

var rules = []rule{
	{
		name: "only plugin and corefile see CoreDNS", from: []string{module},
		except: ours("plugin", "corefile", "test"), forbid: coredns,
	},
	{
		name: "only the store sees etcd", from: []string{module},
		except: ours("registry/store", "registry/cluster", "test"), forbid: etcd,
	},
	{
		name: "only the command sees viper and cobra", from: []string{module},
		except: ours("cmd", "test"), forbid: []string{"github.com/spf13"},
	},
	{
		name: "cache imports no other engine", from: ours("cache"),
		forbid: ours("forward", "registry", "balancer", "agent", "api", "plugin", "corefile", "cmd"),
	},
	{
		name: "forward imports no other engine", from: ours("forward"),
		forbid: ours("cache", "registry", "balancer", "agent", "api", "plugin", "corefile", "cmd"),
	},
	{
		name: "registry imports no other engine", from: ours("registry"),
		forbid: ours("cache", "forward", "balancer", "agent", "api", "plugin", "corefile", "cmd"),
	},
	{
		name: "plugins see engines, not what runs them", from: ours("plugin"),
		forbid: ours("corefile", "agent", "api", "balancer", "cmd", "registry/store", "registry/relay"),
	},
	{
		name: "the agent answers no query", from: ours("agent"),
		forbid: ours("cache", "forward", "plugin", "corefile", "cmd"),
	},
	{
		name: "the API writes through the catalog", from: ours("api"),
		forbid: ours("cache", "forward", "plugin", "corefile", "agent", "registry/store", "registry/relay", "cmd"),
	},
	{
		name: "internal stands below everything", from: ours("internal"),
		forbid: ours("cache", "forward", "registry", "balancer", "agent", "api", "plugin", "corefile", "cmd"),
	},
	{
		name: "nobody imports the command", from: []string{module}, except: ours("cmd", "test"),
		forbid: ours("cmd"),
	},
}

func TestImportsPointDownward(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var seen int
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		for _, r := range rules {
			for _, i := range r.broken(p) {
				t.Errorf("%s: %s imports %s", r.name, p.ImportPath, i)
			}
		}
	}
	if seen < 10 {
		t.Fatalf("go list named only %d packages", seen)
	}
}

func (r rule) broken(p pkg) []string {
	if !below(p.ImportPath, r.from) || below(p.ImportPath, r.except) {
		return nil
	}
	var bad []string
	for _, i := range p.Imports {
		if below(i, r.forbid) && !below(i, r.allow) {
			bad = append(bad, i)
		}
	}
	return bad
}

func below(path string, roots []string) bool {
	for _, r := range roots {
		r = strings.TrimSuffix(r, "/")
		if path == r || strings.HasPrefix(path, r+"/") {
			return true
		}
	}
	return false
}

// TestRuleCanFail shows that a rule finds what it forbids.
func TestRuleCanFail(t *testing.T) {
	p := pkg{ImportPath: module + "cache", Imports: []string{"github.com/coredns/coredns/plugin"}}
	if len(rules[0].broken(p)) != 1 {
		t.Error("an engine that imports CoreDNS is not found")
	}
	p.ImportPath = module + "plugin/cache"
	if len(rules[0].broken(p)) != 0 {
		t.Error("a plugin may import CoreDNS")
	}
}
