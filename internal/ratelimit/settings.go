package ratelimit

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

const (
	// MaxRate bounds a rate, in responses a second.
	MaxRate = 100_000
	// MaxBurst bounds Settings.Burst.
	MaxBurst = time.Minute
	// MaxBits6 is the longest prefix of IPv6 clients: what is behind it one host has to
	// itself.
	MaxBits6 = 64
)

// Settings are what a limiter is to do.
type Settings struct {
	// Rates are responses a second that a prefix gets, by Class; 0 is no limit.
	Rates [Classes]uint32
	// Burst is for how long a prefix that asks nothing saves its rate: so much more it may
	// have at once. One response it always may.
	Burst time.Duration
	// Slip is which of the responses that are refused slips: 1 is each, 2 every second one,
	// 0 none.
	Slip uint8
	// Bits4 and Bits6 are the lengths of the prefixes whose clients count as one.
	Bits4, Bits6 int
	// Exempt are masked prefixes that are not limited, IPv4 as IPv4.
	Exempt []netip.Prefix
	// Loopback says that clients on loopback are limited as others; usually they are exempt.
	Loopback bool
}

// Default returns the settings of a limiter of which nothing is said.
func Default() Settings {
	return Settings{
		Rates: [Classes]uint32{200, 200, 200}, Burst: time.Second, Slip: 2, Bits4: 24, Bits6: 56,
	}
}

// Validate reports all that is out of bounds.
func (s Settings) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("ratelimit: "+format, args...))
		}
	}
	for c, r := range s.Rates {
		check(r <= MaxRate, "rate of %s is %d, at most %d a second", Class(c), r, MaxRate)
	}
	check(s.Burst >= 0 && s.Burst <= MaxBurst, "burst is %s, at most %s", s.Burst, MaxBurst)
	check(s.Slip <= MaxSlip, "slip is %d, at most %d", s.Slip, MaxSlip)
	check(s.Bits4 > 0 && s.Bits4 <= 32, "IPv4 prefix length is %d, want 1 to 32", s.Bits4)
	check(s.Bits6 > 0 && s.Bits6 <= MaxBits6, "IPv6 prefix length is %d, want 1 to %d", s.Bits6, MaxBits6)
	for _, p := range s.Exempt {
		check(p.IsValid() && p == p.Masked(), "%s is no masked prefix", p)
	}
	return errors.Join(errs...)
}
