// Package relay carries the registry from the process that has the store to those that
// answer: one stream of frames for each, the same frames on a socket and on disk.
//
// Flow: the agent applies each batch to its own view and gives it to [Hub.Publish],
// which encodes it once into a bounded ring -> each follower's connection is sent what it
// lacks, from the ring or, where the ring no longer has it, as a whole -> [Follower]
// applies it to the answerer's view, acknowledges it and hands it to [Disk] -> at the
// next start [Disk.Load] fills the view before anybody else is up.
//
// The package knows neither etcd nor DNS, and decides nothing about the records.
package relay
