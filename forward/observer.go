package forward

import "time"

// Observer is told what happens, for metrics. Its methods are called on the query's
// path by many goroutines at once and must not block.
type Observer interface {
	// Answered is called for each reply that was accepted, whatever its RCODE.
	Answered(to Endpoint, rcode int, took time.Duration)
	// Failed is called for each attempt without a reply; timeout says whether it waited
	// in vain rather than met an error.
	Failed(to Endpoint, timeout bool)
	// ProbeFailed is called for each probe that found the upstream not healthy.
	ProbeFailed(to Endpoint)
	// Connection is called when a query takes a socket; proto is udp, tcp, tcp-tls,
	// https or quic, and reused says whether it was open already.
	Connection(to Endpoint, proto string, reused bool)
	// Ignored is called for each packet that came from the upstream's address and was
	// not the reply.
	Ignored(to Endpoint)
	// Retried is called when a UDP reply was truncated or doubtful and TCP is asked.
	Retried(to Endpoint)
	// Failover is called when another upstream is asked after to failed or refused.
	Failover(to Endpoint)
	// AllDown is called for each query that found no upstream fit to be asked.
	AllDown()
	// Hedged is called for each query that was sent to a second upstream before the first
	// answered; won says whether it gave the reply.
	Hedged(to Endpoint, won bool)
	// Shared is called for each query that waits for an identical one under way rather
	// than ask an upstream.
	Shared()
}

// Silent is an Observer that does nothing.
type Silent struct{}

// Answered implements [Observer].
func (Silent) Answered(Endpoint, int, time.Duration) {}

// Failed implements [Observer].
func (Silent) Failed(Endpoint, bool) {}

// ProbeFailed implements [Observer].
func (Silent) ProbeFailed(Endpoint) {}

// Connection implements [Observer].
func (Silent) Connection(Endpoint, string, bool) {}

// Ignored implements [Observer].
func (Silent) Ignored(Endpoint) {}

// Retried implements [Observer].
func (Silent) Retried(Endpoint) {}

// Failover implements [Observer].
func (Silent) Failover(Endpoint) {}

// AllDown implements [Observer].
func (Silent) AllDown() {}

// Hedged implements [Observer].
func (Silent) Hedged(Endpoint, bool) {}

// Shared implements [Observer].
func (Silent) Shared() {}

// counters is an Observer bound to one upstream.
type counters struct {
	to Endpoint
	o  Observer
}

func (c *counters) connection(proto string, reused bool) { c.o.Connection(c.to, proto, reused) }
func (c *counters) ignored()                             { c.o.Ignored(c.to) }
