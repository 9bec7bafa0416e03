package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
)

// mode is a way to put load on a server.
type mode string

const (
	saturated mode = "saturated" // our generator, window full: as fast as it goes
	byDnsperf mode = "dnsperf"
	paced     mode = "paced" // pacedRate
	half      mode = "half"  // half of the server's median rate in saturated
	even      mode = "even"  // one rate for all: half of what the slowest of those compared has
	sweep     mode = "rates" // a range of paces, for the plots
)

const (
	pacedRate  = 5_000 // queries/s
	churnRate  = 100   // registry changes/s
	memoryRow  = "memory"
	ours       = "resolverd"
	oursChurn  = "resolverd, 100 changes/s"
	oursLogged = "resolverd, log"
)

// sweepRates are the paces of mode rates, in queries/s.
var sweepRates = []int{1_000, 5_000, 20_000, 50_000, 100_000, 150_000, 200_000, 300_000}

// server is one program under measurement.
type server struct {
	name  string
	start starter
	zone  string // of its services, with the registry rows
	fill  bool   // enter the services
	part  string // the process that answers, told apart by its second argument
	loud  bool   // it writes a line for each query: to /dev/null
	of    string // measure the process of that server of the row again
	churn bool   // while the registry changes
	few   bool   // leave it out of mode rates
}

// row is one question to several servers.
type row struct {
	name, title string
	servers     []server
	modes       []mode
	// queries writes lines of a name and a type, for dnsperf and ours; zone is the
	// server's, many how many names that are asked once are needed.
	queries func(b *bytes.Buffer, zone string, many int)
	once    bool // each name is asked once: no cache helps
	edns    bool
	window  int // queries under way in mode saturated
}

var rows = []row{
	{
		name: "cached", title: "Cached A answers, 10,000 names", window: 192,
		modes: []mode{saturated, byDnsperf, paced, half, even, sweep},
		servers: []server{
			{name: ours, start: resolverd(), part: "answer"},
			{name: oursLogged, start: resolverd("log"), part: "answer", loud: true, few: true},
			{name: oursChurn, of: ours, part: "answer", churn: true, few: true},
			{name: "floor", start: floor},
			{name: "unbound", start: unbound},
			{name: "dnsdist", start: dnsdist},
			{name: "bind", start: named},
			{name: "knot-resolver", start: kresd},
			{name: "pdns-recursor", start: recursor},
			{name: "dnsmasq", start: dnsmasq},
			{name: "coredns", start: coredns},
		},
		queries: func(b *bytes.Buffer, _ string, _ int) {
			for i := range names {
				fmt.Fprintf(b, "n%d.bench.example A\n", i)
			}
		},
	},
	{
		name: "registry-a", title: "Registry names, A, 1,000 services of 3 instances", window: 192,
		modes: []mode{saturated, byDnsperf, paced, half, even}, servers: registryServers, queries: serviceQueries("A"),
	},
	{
		name: "registry-srv", title: "Registry names, SRV with addresses, 1,000 services of 3 instances", window: 192,
		modes: []mode{saturated, byDnsperf, paced, half, even}, servers: registryServers, queries: serviceQueries("SRV"), edns: true,
	},
	{
		name: "forwarded", title: "Forwarded A answers, names that are asked once", window: 64, once: true,
		modes: []mode{saturated, byDnsperf, paced, half, even},
		servers: []server{
			{name: ours, start: resolverd(), part: "answer"},
			{name: oursChurn, of: ours, part: "answer", churn: true},
			{name: "dnsdist", start: uncached(dnsdist)},
			{name: "unbound", start: unbound},
			{name: "dnsmasq", start: uncached(dnsmasq)},
			{name: "coredns", start: uncached(coredns)},
		},
		queries: func(b *bytes.Buffer, _ string, many int) {
			if many == 0 {
				b.WriteString("any.bench.example A\n") // our generator makes it unique
			}
			for range many {
				fmt.Fprintf(b, "%x.any.bench.example A\n", rand.Uint64())
			}
		},
	},
}

var registryServers = []server{
	{name: ours, start: resolverd(), part: "answer", zone: "internal", fill: true},
	{name: oursChurn, of: ours, part: "answer", zone: "internal", churn: true},
	{name: "floor", start: floor, zone: "internal"},
	{name: "consul", start: consul, zone: "consul", fill: true},
}

func serviceQueries(qtype string) func(*bytes.Buffer, string, int) {
	return func(b *bytes.Buffer, zone string, _ int) {
		for n := range services {
			fmt.Fprintf(b, "s%d.service.%s %s\n", n, zone, qtype)
		}
	}
}

// uncached starts a server without a cache.
func uncached(s starter) starter {
	return func(p place) ([]string, error) {
		p.cache = 0
		return s(p)
	}
}

func rowNames() []string {
	var l []string
	for _, r := range rows {
		l = append(l, r.name)
	}
	return append(l, memoryRow)
}

// chosen says whether a list of names, of which empty is all, has this one.
func chosen(l []string, name string) bool { return len(l) == 0 || slices.Contains(l, name) }
