// Package specialuse is the directive `specialuse`: it answers the names that the DNS
// must not be asked about.
//
// Flow: setup reads the exceptions -> the routes of the plugins below are added to them
// as the chain is made -> ServeDNS finds the special zone of the QNAME in one table -> the
// zone's answer: loopback for localhost, else NXDOMAIN or NODATA with SOA.
//
// The table is RFC 6761, 6303, 6762, 7686, 7793, 8375 and 9462. The package keeps no
// state but counters and looks nothing up.
package specialuse
