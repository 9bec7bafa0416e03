// Package log writes a line for each query: CoreDNS's directive, its syntax, its lines
// and where they go, and lines for what the fast path repeats as well.
//
// Flow: the first stanza whose names hold QNAME is the query's -> the chain below answers
// -> if the stanza takes the response's class and the sample the query, the line is
// formatted and written. Where the response may be repeated, the parts of its line that
// no query changes are formatted once more and kept with the response; the fast path's
// reader then hands over what a query adds (client, id, duration), and the lines of a
// turn are written together.
//
// What the fast path takes to the cache or an upstream without the chain is told with both
// packets ([handler.Witness]), of which the line is made.
//
// It decides nothing about answers, and keeps no line.
package log
