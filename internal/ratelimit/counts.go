package ratelimit

import "sync/atomic"

// Class is what kind of response it is. Each has a rate and buckets of its own.
type Class uint8

// The classes, and their number.
const (
	Answer Class = iota // NOERROR with something in ANSWER
	Denial              // NXDOMAIN and NODATA
	Error               // everything else
	Classes
)

// ClassOf returns the class of a response with that RCODE and number of RRs in ANSWER.
func ClassOf(rcode, answers int) Class {
	switch {
	case rcode == 0 && answers > 0:
		return Answer
	case rcode == 0 || rcode == 3:
		return Denial
	}
	return Error
}

// String returns the class in lower case.
func (c Class) String() string { return [...]string{"answer", "denial", "error"}[c] }

// Verdict is what becomes of a response.
type Verdict uint8

// The verdicts.
const (
	Pass Verdict = iota
	Drop
	Slip // an empty response with TC goes instead
)

// Result is what became of a response, as it is counted.
type Result uint8

// The results, and their number. The first three are the verdicts.
const (
	Passed    Result = iota // within the rate
	Dropped                 // over it, nothing was sent
	Slipped                 // over it, an empty response with TC was sent
	Exempted                // the client is exempt
	Known                   // the query had a good server cookie
	BadCookie               // over it, BADCOOKIE was sent with a good one
	Results
)

// String returns the result in lower case.
func (r Result) String() string {
	return [...]string{"passed", "dropped", "slipped", "exempt", "cookie", "badcookie"}[r]
}

// Counts are responses by class and result. They only grow, and are safe for concurrent
// use.
type Counts struct {
	n [Classes][Results]atomic.Uint64
}

// Add counts one response.
func (c *Counts) Add(class Class, r Result) { c.n[class][r].Add(1) }

// Of returns how many responses of the class had the result.
func (c *Counts) Of(class Class, r Result) uint64 { return c.n[class][r].Load() }
