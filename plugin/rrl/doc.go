// Package rrl is the directive that bounds the responses to a client prefix over UDP,
// whose source anybody may forge: response rate limiting, with DNS cookies (RFC 7873).
//
// Flow: the handler reads the query's COOKIE option -> the chain answers -> on the way out
// the response has a class -> a good server cookie passes, else the limiter
// (internal/ratelimit) decides: pass, drop, an empty response with TC, or BADCOOKIE for who
// sent a client cookie -> a response to a query with a cookie gets a full one
// (internal/cookie).
//
// A response that passes may be learnt by the fast path, which asks the same limiter for
// each repetition. Over TCP, TLS, HTTPS and QUIC nothing is limited: the client has shown
// that it is where it says.
package rrl
