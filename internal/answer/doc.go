// Package answer is the contract between those who make an answer and those who
// repeat it.
//
// A producer (plugin/cache, plugin/registry) that writes a response says in the
// query's [Verdict] whether the response may be given to other clients of the same
// class, for how long, and under which epoch. The fast path puts a Verdict into
// the context before the chain runs and reads it afterwards; without a Verdict in
// the context every call here is a no-op, so a producer need not know who listens.
//
// Flow: listener puts Verdict -> chain -> producer calls Share -> any plugin may
// call Veto -> listener asks Shareable and learns the packed response, or does not.
//
// The package also holds what every producer must do alike: Extended DNS Errors
// (RFC 8914). It decides nothing and keeps no state.
package answer
