package answer

import (
	"net"
	"net/netip"
	"time"
)

// Watching is a plugin that writes down responses one by one, and so wants to be told of
// each repetition: where a response may be repeated it calls [Verdict.Watch] for it.
type Watching interface {
	// Watches returns why the plugin cannot write down repetitions as it does others, or
	// nil. With an error nothing is repeated that passes the plugin.
	Watches() error
}

// Witness is a Watching that can write down, too, what no chain answered: plain queries
// over UDP that the fast path took to the cache or to an upstream.
type Witness interface {
	Watching
	// Witness returns the watch for all of these that come to local. What its Watcher is
	// told has packets as the plugin's place in the chain would see the messages, but that
	// the response has the OPT that its client gets.
	Witness(local net.Addr) Watch
}

// Watcher is told of repetitions by one goroutine at a time, soon after them. It may
// block: repetitions that find no room meanwhile are dropped and counted.
type Watcher interface {
	// Repeated is told of one repetition, with the note of its Watch. r and what it holds
	// are the caller's again when it returns.
	Repeated(note any, r *Repetition)
	// Flush is called when nothing more waits at the moment.
	Flush()
}

// Watch asks that repetitions of one response be told.
type Watch struct {
	To   Watcher // comparable; never nil
	Note any     // what To knows of the response; immutable
	// Size is about how many octets Note holds, for the bound of who keeps it.
	Size int
	// OneIn samples: each repetition is told with a probability of 1/OneIn; 0 and 1 tell all.
	OneIn uint32
	// Packets says that the packets of query and response are wanted.
	Packets bool
}

// Repetition is a query that was answered by repeating a response.
type Repetition struct {
	Client netip.AddrPort // IPv4 as IPv4, a link-local address with its zone
	ID     uint16
	At     time.Time     // when the query was taken in
	Took   time.Duration // until the response was sent, about

	// Query and Response are the packets as they came and left; nil where the Watch does
	// not want them.
	Query, Response []byte
}
