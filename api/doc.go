// Package api serves the registry over HTTP: Consul's endpoints and JSON where Consul has
// one, our own below /v1/resolverd/.
//
// Flow: [New] makes the handler -> a request passes the gate (Host header, token, method)
// -> a read looks at the view's snapshot, or blocks until its own result changes, and
// renders it as Consul would -> a write is decoded by hand so that a fault names its
// field, becomes a catalog.Registration, and is answered when the view shows it.
//
// It decides nothing about the registry (registry/catalog does), runs no checks, and
// listens on nothing by itself: [Serve] is given a listener. docs/api.md lists every
// endpoint.
package api
