package catalog_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/catalog"
)

func TestInvalid(t *testing.T) {
	long := strings.Repeat("x", 2000)
	many := map[string]string{}
	for n := range 65 {
		many[fmt.Sprint("k", n)] = ""
	}
	on := func(edit func(*registry.Instance)) catalog.Registration {
		return catalog.Registration{Instance: web("w1", edit)}
	}
	def := func(d registry.CheckDefinition) catalog.Registration {
		return catalog.Registration{Instance: web("w1"), Checks: []*registry.Check{{InstanceID: "w1", Definition: &d}}}
	}
	checks := func(ks ...*registry.Check) catalog.Registration {
		return catalog.Registration{Instance: web("w1"), Checks: ks}
	}
	sec := registry.Duration(time.Second)
	for name, c := range map[string]struct {
		reg  catalog.Registration
		want []string // fields
	}{
		"no name":              {on(func(i *registry.Instance) { i.Service = "" }), []string{"Name"}},
		"long name":            {on(func(i *registry.Instance) { i.Service = long }), []string{"Name"}},
		"control in name":      {on(func(i *registry.Instance) { i.Service = "a\nb" }), []string{"Name"}},
		"not UTF-8":            {on(func(i *registry.Instance) { i.ID = "\xff" }), []string{"ID"}},
		"many at once":         {on(func(i *registry.Instance) { i.Service = ""; i.Meta = many; i.Tags = []string{long} }), []string{"Name", "Tags[0]", "Meta"}},
		"empty meta key":       {on(func(i *registry.Instance) { i.Meta = map[string]string{"": "v"} }), []string{"Meta key"}},
		"long meta value":      {on(func(i *registry.Instance) { i.Meta = map[string]string{"k": long} }), []string{"Meta.k"}},
		"port without number":  {on(func(i *registry.Instance) { i.Ports = []registry.NamedPort{{Name: "a"}} }), []string{"Ports[0].Port"}},
		"port twice":           {on(func(i *registry.Instance) { i.Ports = []registry.NamedPort{{Name: "a", Port: 1}, {Name: "A", Port: 2}} }), []string{"Ports[1].Name"}},
		"tags":                 {on(func(i *registry.Instance) { i.Tags = make([]string, 257) }), []string{"Tags"}},
		"node without address": {catalog.Registration{Node: &registry.Node{Name: "n9"}}, []string{"Address"}},
		"nothing":              {catalog.Registration{}, []string{"Node"}},
		"two nodes":            {catalog.Registration{Node: node(t, "n2", "10.0.0.2"), Instance: web("w1")}, []string{"Node"}},

		"no kind":          {def(registry.CheckDefinition{}), []string{"Check.Kind"}},
		"http":             {def(registry.CheckDefinition{Kind: registry.CheckHTTP, URL: "ftp://x"}), []string{"Check.HTTP"}},
		"http method":      {def(registry.CheckDefinition{Kind: registry.CheckHTTP, URL: "http://x", Method: "G T"}), []string{"Check.Method"}},
		"http header":      {def(registry.CheckDefinition{Kind: registry.CheckHTTP, URL: "http://x", Header: map[string][]string{"a": {"b\r\nc"}}}), []string{"Check.Header"}},
		"tcp without port": {def(registry.CheckDefinition{Kind: registry.CheckTCP, Target: "10.0.0.1"}), []string{"Check.TCP"}},
		"udp port 0":       {def(registry.CheckDefinition{Kind: registry.CheckUDP, Target: "10.0.0.1:0"}), []string{"Check.UDP"}},
		"grpc":             {def(registry.CheckDefinition{Kind: registry.CheckGRPC, Target: ":x/s"}), []string{"Check.GRPC"}},
		"script":           {def(registry.CheckDefinition{Kind: registry.CheckScript}), []string{"Check.Args"}},
		"ttl":              {def(registry.CheckDefinition{Kind: registry.CheckTTL}), []string{"Check.TTL"}},
		"alias":            {def(registry.CheckDefinition{Kind: registry.CheckAlias}), []string{"Check.AliasService"}},
		"times":            {def(registry.CheckDefinition{Kind: registry.CheckTTL, TTL: sec, Interval: 1, Timeout: -1, DeregisterCriticalAfter: sec - 1}), []string{"Check.Interval", "Check.Timeout", "Check.DeregisterCriticalServiceAfter"}},
		"thresholds":       {def(registry.CheckDefinition{Kind: registry.CheckTTL, TTL: sec, FailuresBeforeCritical: -1, SuccessBeforePassing: 1001}), []string{"Check.SuccessBeforePassing", "Check.FailuresBeforeCritical"}},
		"status":           {checks(&registry.Check{ID: "c", Status: "fine"}), []string{"Check.Status"}},
		"check without id": {checks(&registry.Check{}), []string{"Check.CheckID"}},
		"reserved":         {checks(&registry.Check{ID: "_node_maintenance"}, &registry.Check{ID: "_service_maintenance:x"}), []string{"Checks[0].CheckID", "Checks[1].CheckID"}},
		"check twice":      {checks(&registry.Check{ID: "c"}, &registry.Check{ID: "c"}), []string{"Checks[1].CheckID"}},
		"other instance":   {checks(&registry.Check{ID: "c", InstanceID: "w2"}), []string{"Check.ServiceID"}},
		"other node":       {checks(&registry.Check{ID: "c", Node: "n2"}), []string{"Check.Node"}},
		"too many checks":  {checks(make([]*registry.Check, 65)...), []string{"Checks"}},
		"as Consul takes it": {on(func(i *registry.Instance) {
			i.Service, i.ID, i.Tags = "my service_Ü.x/y", "host:web:80/tcp", []string{"a=b,c", ""}
		}), nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			before := b.store.Commits()
			_, err := b.Register(t.Context(), byAPI, c.reg)
			var bad *catalog.Invalid
			if len(c.want) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.As(err, &bad) {
				t.Fatalf("error: %v", err)
			}
			var got []string
			for _, f := range bad.Fields {
				got = append(got, f.Field)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s\n%v", diff, err)
			}
			if b.store.Commits() != before {
				t.Error("something was written")
			}
			if len(err.Error()) > 4096 {
				t.Errorf("%d octets of error", len(err.Error()))
			}
		})
	}
}
