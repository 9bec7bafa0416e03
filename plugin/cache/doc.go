// Package cache is the CoreDNS plugin cache: the stock directive over the engine in
// github.com/resolverd/resolverd/cache.
//
// Flow: ServeDNS makes the key of a query and asks the store. A fresh entry is written,
// perhaps after a refresh was started in the background. A stale one is written, or
// compared with the source first, as serve_stale says. A miss is fetched from the next
// plugin by one query while the others wait; the recorder sees the response, stores it
// and hands it on.
//
// The package does not decide what a response says or how long it lives: the engine does.
// It keeps nothing of its own over a reload: the store is a resident of the process, found
// by the identity of the server block.
package cache
