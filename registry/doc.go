// Package registry holds what is known of services: the model (nodes, instances,
// checks, roles), the keys and values under which it is stored and relayed, and the
// view that answers from memory.
//
// Flow: a [Change] is committed to the store (registry/store) -> its records come back
// as a [Batch] through the relay (registry/relay) -> [View.Apply] decodes them and
// swaps in a new [Snapshot] -> registry/names makes RRsets of it, the HTTP API and the
// balancers read it. registry/catalog decides what a registration or a deregistration
// changes.
//
// The package knows no etcd, no DNS message and no clock; states are derived from
// records by pure functions.
package registry
