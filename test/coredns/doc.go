// Package coredns runs CoreDNS's own whole-server tests against our plugin set, with our
// cache and forward in the places of the stock ones.
//
// Flow: the CoreDNS module is copied to a temporary folder -> its list of plugins is
// replaced by an import of our corefile package -> a Go workspace joins both modules ->
// the tests run in a network namespace that has loopback only -> every test that stock
// passes there (stock.txt) must pass, but those that need a plugin that we leave out.
//
// Nothing of the copy is kept, and nothing of it is committed.
package coredns
