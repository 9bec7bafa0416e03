// Package catalog says what a write to the registry means: who owns an instance, what a
// second registration of the same thing changes (nothing), what a deregistration by
// another than the owner leaves behind (a tombstone), and which line of the history each
// change gets.
//
// Flow: the HTTP API, the sources and the check runner call a method of [Catalog] -> the
// input is validated whole ([Invalid] names every bad field) -> a pure function decides
// from the view's snapshot what to write ([registry.Change] with guards) -> the store
// commits it, or the decision is made again on a newer snapshot -> the call returns when
// the view shows the write, so that a read after the reply sees it.
//
// It runs no checks, serves no protocol and keeps no state of its own but locks.
package catalog
