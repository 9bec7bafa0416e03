package corefile

import (
	"fmt"
	"slices"

	"github.com/coredns/coredns/core/dnsserver"
)

// directives is the one order in which plugins see a query, first to last. The stock
// plugins stand as they do in CoreDNS; ours are marked.
var directives = []string{
	blockDirective, // ours: carries what the loader knows of a block to the setups
	"root",
	"metadata",
	"geoip",
	"cancel",
	"proxyproto",
	"quic",
	"grpc_server",
	"https",
	"https3",
	"timeouts",
	"multisocket",
	"reload",
	"nsid",
	"bufsize",
	"bind",
	"debug",
	"ready",
	"health",
	"pprof",
	"shed",
	"fastpath", // ours: below those that act at start or on what it does not repeat, above those that it does the work of
	"prometheus",
	"errors",
	"log", // ours under the stock name
	"dnstap",
	"rrl",     // ours: below those that count and log, above all that costs
	"horizon", // ours: below those that count and log, above those that answer
	"local",
	"dns64",
	"siit",
	"any",
	"chaos",
	"loadbalance",
	"tsig",
	"rewrite",
	"autopath",
	"acl",
	"registry", // ours: above the cache, for its answers differ by client and second
	"cache",    // ours under the stock name
	"header",
	"dnssec",
	"tls",
	"minimal",
	"template",
	"transfer",
	"dynupdate",
	"hosts",
	"file",
	"auto",
	"secondary",
	"etcd",
	"specialuse", // ours: after every plugin that holds names, before those that ask others
	"loop",
	"consul",  // ours: the more special route first
	"forward", // ours under the stock name
	"grpc",
	"erratic",
	"whoami",
	"sign",
	"view",
}

// Directives returns the directives of this build in the order in which they see a
// query. The slice is the caller's.
func Directives() []string {
	return slices.DeleteFunc(slices.Clone(directives), func(d string) bool { return d == blockDirective })
}

func init() {
	if err := dnsserver.SetDirectives(directives); err != nil {
		panic(fmt.Sprintf("corefile: %v", err)) // the list above names one twice
	}
}
