package fastpath

import "time"

// Relay answers plain queries that were not learnt without the chain, by asking others
// for a loop that does not wait for them. Each loop has one of its own for each
// generation, and calls it from its thread alone.
type Relay interface {
	// Take takes a query over, or says no, and the chain gets it. What it keeps of q it
	// copies; back is the way of the reply. A reply that is there at once it writes into
	// buf, of MaxReply octets, and returns its length.
	Take(q *Query, back *Return, out Outlet, buf []byte) (n int, taken bool)
	// Send sends what was taken since the last call.
	Send(Outlet)
	// FD is readable when Receive has something to do.
	FD() int
	// Receive gives the outlet what came.
	Receive(Outlet)
	// Next is when Expire has something to do; the zero Time means never.
	Next() time.Time
	// Expire gives up what has waited for too long.
	Expire(Outlet)
	// Close gives all that is under way to the chain.
	Close(Outlet)
}

// Query is a plain query. It is valid during the call.
type Query struct {
	// Packet is the query as it came.
	Packet []byte
	// Name is QNAME in lower case, Question QNAME as spelt with QTYPE and QCLASS, both in
	// wire form.
	Name, Question []byte
	Type, Class    uint16
	// The bits of the header and of the OPT, if there is one.
	RD, AD, CD, DO, EDNS bool
	// Size is the UDP payload size that the OPT announces, 0 without one.
	Size uint16
	// Client is the client's class, as Config.Class has it, and OnHost says that it is on
	// this host.
	Client uint32
	OnHost bool
	// Now is about the moment when the query came.
	Now time.Time
}

// Return is the way back to the client of a query.
type Return struct {
	g      *Generation
	socket *socket
	to     sockaddr
	class  uint32
}

// Outlet is where a relay's replies go.
type Outlet interface {
	// Buffer returns room for a reply, of [MaxReply] octets.
	Buffer() []byte
	// Tell has watchers told of a reply, and when its query came.
	Tell(back *Return, w *Watches, query, reply []byte, at time.Time, took time.Duration)
	// Reply sends the first n octets of the buffer.
	Reply(back *Return, n int)
	// Chain gives the query to the chain. begun is handed on to whoever asks
	// [answer.BegunFrom], and may be nil.
	Chain(back *Return, query []byte, begun any)
}

// none is the relay of a loop that has none.
type none struct{}

func (none) Take(*Query, *Return, Outlet, []byte) (int, bool) { return 0, false }
func (none) Send(Outlet)                                      {}
func (none) FD() int                                          { return -1 } // which poll passes over
func (none) Receive(Outlet)                                   {}
func (none) Next() time.Time                                  { return time.Time{} }
func (none) Expire(Outlet)                                    {}
func (none) Close(Outlet)                                     {}

// MaxReply is the longest reply that a relay may write.
const MaxReply = maxReply
