// Package ratelimit bounds the responses that a client prefix gets in a second, so that
// queries with a forged source do not make this host flood whom they name.
//
// Flow: a response of a [Class] is due to a client -> [Limiter.Limit] finds the bucket of
// (prefix, class) in a [Table] of fixed size -> a pure step takes a token from it, or says
// that the response is to be dropped, or to slip: an empty one with TC, on which a real
// client comes back over TCP -> the result is counted.
//
// It neither allocates nor locks, whatever comes. Time is handed in. It knows no sockets,
// no cookies and no messages; who is known to own the address does not ask it.
package ratelimit
