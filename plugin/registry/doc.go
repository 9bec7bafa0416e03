// Package registry is the directive `registry`: it answers the names of internal
// services from the registry's view.
//
// Flow: setup reads the zones and their settings and takes the process's view ->
// ServeDNS finds the longest zone of the QNAME (or a reverse name) -> registry/names
// makes the answer from the current snapshot -> a CNAME that leaves the registry is
// followed through the server -> the response is cut to the client's size, declared
// shareable under its epoch, and written. AXFR goes through the stock plugin transfer.
//
// It holds no state of its own but counters, never writes to the registry, and decides
// nothing about names: registry/names does.
package registry
