// Package listenlock keeps two copies of resolverd from sharing an address or a data
// directory by accident, and finds out who has a port that we want.
//
// CoreDNS listens with SO_REUSEPORT: a second process of the same user binds port 53
// without an error and takes a share of the queries. Hence the lock comes first.
//
// Flow: [Dir] finds a directory that only we can write -> [Set.Add] takes a flock on a
// file named by network namespace, address and port, and writes into it who we are ->
// the second copy gets [Held], which names the first. [Probe] binds the address for a
// moment to see that no other program has it, and names that program from /proc.
//
// The kernel drops a flock with its process, however that ends: no lock is ever stale.
// A file is removed by the one that has it locked only, and who locks one sees that it
// still has its name, or two processes could each lock one of that name.
package listenlock
