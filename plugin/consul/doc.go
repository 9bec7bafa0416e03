// Package consul is the consul directive: the names of a Consul agent beside us,
// without the settings that get it wrong.
//
// Flow: setup parses -> a pool of its own over the agent's DNS port, kept among the
// process's residents -> ServeDNS asks it, tells the cache above to hold to Consul's
// TTLs, and explains a failure.
//
// It knows no HTTP API of Consul, and answers nothing by itself.
package consul
