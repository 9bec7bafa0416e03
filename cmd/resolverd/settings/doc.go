// Package settings answers who this node is: name, address, data directory, API,
// checks, log. How names are answered is the Corefile's business.
//
// Flow: [Load] reads resolverd.yaml -> the RESOLVERD_* environment covers it -> flags
// cover both -> each value is parsed and everything together is checked by
// [Settings.Validate] -> a [Settings], or [Faults] that name each mistake at once with
// file and line, variable or flag.
//
// It is the one place that sees viper. It starts nothing and creates no file.
package settings
