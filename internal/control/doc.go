// Package control lets one user's commands speak to the running answerer: reload,
// cache statistics, flush, status.
//
// Flow: [Listen] makes control.sock -> the peer's uid is read from the socket and only
// our own or root is admitted -> POST /v1/VERB with a small JSON body -> the function
// that the program registered for the verb -> its result as JSON, or the error with its
// hint. [Client] is the other end.
//
// It knows no verb's meaning, and it is no API for other hosts: that is package api.
package control
