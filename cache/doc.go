// Package cache keeps DNS responses as packets and repeats them while they are true.
//
// Flow: the caller builds the key of a query ([AppendKey]) and asks [Cache.Find]; on a
// hit [Entry.AppendReply] writes a copy with the client's ID, flags, spelling of the
// name and the TTLs counted down, without a dns.Msg and without an allocation. On a
// miss [Cache.Join] lets one caller fetch and the others wait; the one that fetches
// passes the response through [Prepare], which decides what it is, how long it lives
// and which RRs of it answer the question, and hands it to [Cache.Store].
//
// One Cache is one namespace: the answers of one server block for one horizon. What is
// stored in one cannot be found in another. Its memory is bounded by a budget in bytes,
// and by S3-FIFO queues the names that are asked again outlive a flood of names that are
// asked once. A flush raises the epoch: learnt copies die, and what a fetch that began
// before the flush brings home is not stored.
//
// The package has no goroutine, opens no socket and reads no clock but in New: the caller hands
// the time in. It does not choose between stale and fresh, does not prefetch and does
// not validate DNSSEC; plugin/cache does the first two.
package cache
