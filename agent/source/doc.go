// Package source brings into the registry what this host's files say: one directory,
// services.d, of YAML and JSON files, in our form or in Consul's.
//
// Flow: [Files] watches the directory -> a file that changed is read and parsed whole
// ([Parse]; every fault with its line) -> a file with a fault keeps what it said last,
// and the log says where the fault is -> the definitions of all files are compared with
// the view -> what differs is registered, what no file says any more is deregistered.
//
// What somebody else deregistered stays away until its file changes: the catalogue keeps
// a tombstone. Files that others than root can write bring no script checks; [Files.Vouches]
// tells the check runner which commands stand in a file that may.
//
// The package does not say what a valid registration is (registry/catalog does) and runs
// no check.
package source
