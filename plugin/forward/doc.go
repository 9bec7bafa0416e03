// Package forward is the forward directive: CoreDNS's syntax over the engine of
// github.com/resolverd/resolverd/forward.
//
// Flow: setup parses a stanza -> a pool of upstreams is taken from, or put into, the
// process's residents, so that health and connections outlive a reload -> ServeDNS
// matches the zone, bounds what is under way, and lets the pool ask.
//
// It decides nothing about upstreams itself.
package forward
