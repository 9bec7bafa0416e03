//go:build race

package agent_test

// scaleHosts is small under the race detector, which makes everything ten times slower.
const scaleHosts = 200
