package corefile

import (
	"fmt"
	"regexp"
)

// options are those of the plugins that are ours, for the hint at a mistyped one.
var options = map[string][]string{
	"cache":  {"bytes", "success", "denial", "prefetch", "serve_stale", "serve_stale_policy", "servfail", "disable", "keepttl"},
	"consul": {"to", "timeout", "max_concurrent", "force_tcp"},
	"forward": {
		"except", "force_tcp", "prefer_udp", "expire", "max_age", "max_idle_conns", "read_timeout", "max_fails",
		"max_connect_attempts", "doh_method", "tls", "tls_servername", "policy", "health_check", "max_concurrent", "next",
		"next_on_nodata", "failfast_all_unhealthy_upstreams", "failover", "source_address", "resolver",
	},
	"registry": {
		"ttl", "negative_ttl", "only_passing", "all_critical", "srv_drain", "short", "exclusive", "fallthrough",
		"datacenter", "ns", "mbox",
	},
}

var unknownOption = regexp.MustCompile(`^([a-z]+): unknown (?:option|property) ["']([^"']*)["']`)

// optionHint returns the option that was meant by a fault's text, as a hint, or "".
func optionHint(text string) string {
	m := unknownOption.FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	if near := nearest(m[2], options[m[1]]); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return ""
}
