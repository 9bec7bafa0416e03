// Command resolverd is a host's resolver: it answers the names of internal services
// from a registry, forwards the rest, and feeds balancers.
//
// Flow of `resolverd run`: settings -> data directory and lock -> the supervisor starts
// `resolverd answer` (view from disk, relay, control socket, Corefile) and `resolverd
// agent` (store, checks, API) -> SIGTERM stops the answerer, then the agent. All other
// commands are clients: of the control socket (reload, cache) or of the HTTP API
// (service, node, history).
//
// Only this directory and settings see cobra and viper. It holds start and stop order
// and nothing that answers or decides.
package main
