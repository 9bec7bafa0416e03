// Package store keeps the registry in an etcd that runs inside the process, and is the
// one package that knows etcd.
//
// Flow: [Store.Commit] queues a [registry.Change] -> changes whose keys do not overlap
// are written as one etcd transaction -> each caller has its answer when that is on
// disk -> [Store.Follow] hands the same records on as batches, one a revision -> upkeep
// compacts, defragments and trims the history in the background.
//
// etcd has no listener here, neither TCP nor socket: whoever wants to write goes through
// this process. The package decides nothing about what a registration means
// (registry/catalog) and serves no reader but its own process (registry/relay does).
package store
