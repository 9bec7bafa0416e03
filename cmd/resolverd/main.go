package main

import (
	"os"
)

func main() { os.Exit(run(os.Args[1:])) }

// run is main without the exit, for tests.
func run(args []string) int {
	root := newRoot()
	root.SetArgs(args)
	return report(os.Stderr, root.Execute())
}
