// Package fastpath answers plain UDP queries from packets that it saw written before.
//
// It never decides, it repeats. A reply is learnt only if whoever made it called
// answer.Verdict.Share for it, and is repeated only to clients of the same class that
// ask with the same flags and announce the same size, until its time is up or its epoch
// moves.
//
// Flow: [Engine] loop receives a batch -> parse -> key -> [Table] -> patched copy -> the
// batch is sent. What is not found, or is no plain query, goes through a virtual
// PacketConn to a private dns.Server, whose handler is the real server's chain; its
// reply leaves through the socket that the query came in by, and is learnt.
//
// Who wants to be told of each repetition (answer.Watch) is told by one goroutine, to
// whom each loop hands records through a ring; a full ring drops and counts.
//
// It knows no CoreDNS: what runs the chain, who may be answered alike and who counts the
// hits come in a [Config]. Sockets need Linux; elsewhere [Engine.Adopt] says so.
package fastpath
