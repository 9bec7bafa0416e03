// Package agent is the process beside the answerer: it keeps the registry, takes
// registrations, runs this host's checks, and tells the answerer what changed.
//
// Flow of a write: API, services.d or a check's result -> registry/catalog decides ->
// registry/store commits -> the store's stream brings it back to this process's view and
// to the hub -> the answerer's follower shows it and says so -> the writer has its answer.
//
// Parts are started so that each finds what it needs: store, view, hub, catalogue, node,
// lease, checks, sources, API; they are stopped in the reverse order. When the store
// fails the process ends, and its supervisor starts it anew: answers go on meanwhile.
// The package answers no DNS query and parses no packet of a stranger.
package agent
