// Package check runs the checks of this host's instances and of the host itself, and
// reports what they find.
//
// Flow: [Runner] follows the view for checks of its node that have a definition -> a
// heap of due times says which is next, each check on a slot of its own within its
// interval -> a bounded number of probes run at once, one file a kind (http, tcp, udp,
// grpc, script, alias; ttl waits to be told) -> a pure state machine turns a result into
// a status and says when it is worth a write -> Report writes it, again and again with
// a growing pause where that does not work.
//
// An instance that was critical for its deregister_critical_after is handed to Reap.
//
// The package validates nothing (registry/catalog does), listens on nothing, and runs no
// command that was not vouched for by whoever read the local files (Config.AllowScript).
package check
