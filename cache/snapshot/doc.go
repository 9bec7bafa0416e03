// Package snapshot keeps a cache over a restart of the process, in a file.
//
// Flow: [Open] names the file; [Keeper.Start] reads it in the background, the hot entries
// first, while queries are answered already; then the cache is written anew at intervals
// in which it changed, after a flush at once, and at [Keeper.Close]. A file is written
// beside the old one and takes its place when it is whole and synced.
//
// The file is a copy that may be lost: what is damaged in it is left out, and a disk that
// fails is warned of and stops nothing. What was flushed does not come back: a flush
// removes the file before it returns.
package snapshot
