//go:build tools

// Package coredns pins the stock CoreDNS that the benchmarks run beside ours.
package coredns

import _ "github.com/coredns/coredns"
