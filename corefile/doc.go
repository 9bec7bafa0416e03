// Package corefile loads, checks and runs the Corefile: which plugins there are, in
// which order they see a query, and how one Corefile takes the place of another
// without a query being lost.
//
// Flow: [Load] reads the file (or the embedded default), expands imports and variables,
// names every fault with file:line and a hint, and moves health and ready to loopback
// where no address is given -> [Start] takes the listeners' locks and starts CoreDNS ->
// [Runner.Reload] loads again and swaps, or refuses and leaves the old one serving ->
// [Runner.Stop] waits out lameduck, answers what is in flight and closes.
// [Check] does all of it but starting.
//
// The package decides nothing about names: the plugins do. It reads no settings; they
// are handed in.
package corefile
