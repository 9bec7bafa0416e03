// Package client calls the HTTP API for the command line.
//
// Flow: [New] takes an address and a token -> a method sends one request, in Consul's
// form where the endpoint is Consul's -> the reply is decoded into the model, or becomes
// an [Error] with its HTTP status and the API's own words. [Client.Watch] repeats a
// blocking query until its context ends.
//
// It caches nothing, and validates nothing that the API validates.
package client
