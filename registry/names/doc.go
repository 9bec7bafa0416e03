// Package names turns the registry into DNS: a name below a zone is read by one
// grammar, and what the snapshot holds for it becomes RRsets.
//
// Flow: [Zone.Parse] reads a QNAME into a [Question] -> [Zone.Answer] looks it up in a
// [registry.Snapshot] and makes an [Answer] (RRsets, RCODE, which epoch it rests on) ->
// [Fit] cuts the finished response to what the client takes -> [Zone.Transfer] lists the
// same names for AXFR. The grammar is in docs/names.md as EBNF, its vectors are in
// testdata/vectors.txt.
//
// The package is pure: it has no clock, no socket and no lock, and its only chance is
// the [Rand] that is handed in. It does not follow a CNAME, choose between zones or
// decide what passes on to another plugin; plugin/registry does.
package names
