// Package supervisor runs the processes that resolverd consists of and keeps them
// running.
//
// Flow: [Run] starts each [Child] in a process group of its own -> a child says that
// it is ready on the pipe that it inherits ([Ready]) -> one that ends is started again,
// later and later while it keeps ending at once -> when the context ends the children
// are stopped one after the other, in the order of the list -> nothing is left.
//
// A child ends with the supervisor even where that is killed (PR_SET_PDEATHSIG). The
// supervisor opens no socket and reads nothing but those pipes.
package supervisor
