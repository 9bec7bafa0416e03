// Package horizon is the directive that selects a server block by the client's address.
//
// Flow: the loader shows each server block ([Observe]) -> each `horizon` line names the
// block's sets of prefixes -> when all are read, a plan is made for every listener and
// zone: one longest-prefix table over all blocks of it -> dnsserver asks the plan
// whether a block is for the client -> a guard in front of every block's plugins asks
// again, for dnsserver walks on to the parent zone where no block was.
//
// The client's address is the connection's; an EDNS Client Subnet (RFC 7871) is what
// anybody may claim, and is not looked at.
package horizon
