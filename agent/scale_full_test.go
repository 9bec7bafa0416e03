//go:build !race

package agent_test

const scaleHosts = 5_000
