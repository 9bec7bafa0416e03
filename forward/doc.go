// Package forward sends queries to upstreams and brings back a response that can be
// believed.
//
// A [Pool] is one set of upstreams with one policy. [Pool.Exchange] takes a client's
// query through it:
//
//	order     the policy puts upstreams in order, health moves the doubtful ones back
//	outgoing  a query of our own is made of the client's: new id, own EDNS, no hop-by-hop options
//	attempt   a transport (UDP, TCP, DoT, DoH, DoQ) asks one upstream; a truncated reply is asked again over TCP
//	judge     errors, SERVFAIL and REFUSED lead to the next upstream, within the budget
//	finish    the response gets the client's id and question, and loses what is not for this client
//
// A failure starts a probe of that upstream in the background ([State]); its outcome
// decides whether the upstream is asked further. Upstreams may come from a resolv.conf,
// which is followed; its last good set is kept when it empties.
//
// The package does not choose zones (the plugin does), caches nothing, validates no
// DNSSEC and knows neither CoreDNS nor its Corefile. Nothing here logs per query.
package forward
