//go:build tools

// Package consul pins the Consul that the tests use as a real peer: the last release
// under MPL-2.0 that builds as a dependency.
package consul

import _ "github.com/hashicorp/consul"
