// Package hostnet knows the addresses of this host.
//
// A [Follower] keeps the set of them current: the kernel reports changes by netlink,
// and where it cannot be asked so (another system, a sandbox) the set is read at
// intervals. Reading the set takes no lock.
//
// Flow: Follow -> list -> subscribe -> each change: list again, publish -> Has.
//
// It needs no privilege and changes nothing.
package hostnet
