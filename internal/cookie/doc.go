// Package cookie makes and judges DNS server cookies (RFC 7873), which show that a client
// receives what is sent to the address that it asks from.
//
// Flow: the content of a COOKIE option -> [Keeper.Judge] -> whether it is malformed, of a
// stranger or good, and the cookie for the response. Cookies are those of RFC 9018:
// another server with the same secret makes and takes the same.
//
// Secrets are random and rolled over once a day, or read from a file for a set of anycast
// servers ([ReadSecrets]). They appear in no error and no log. The package knows no
// messages and no sockets; time is handed in.
package cookie
