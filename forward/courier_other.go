//go:build !linux

package forward

import (
	"errors"
	"time"
)

// Courier needs recvmmsg and epoll: here there is none, and every query goes by its pool.
type Courier struct{}

type port struct{}

// NewCourier returns an error.
func NewCourier() (*Courier, error) { return nil, errors.ErrUnsupported }

// FD returns nothing to wait for.
func (*Courier) FD() int { return -1 }

// Flying returns 0.
func (*Courier) Flying() int { return 0 }

// Next returns never.
func (*Courier) Next() time.Time { return time.Time{} }

// Begin says no.
func (*Courier) Begin(Errand, time.Time) bool { return false }

// Send does nothing.
func (*Courier) Send(func(*Outcome)) {}

// Receive does nothing.
func (*Courier) Receive(time.Time, func(*Outcome)) {}

// Expire does nothing.
func (*Courier) Expire(time.Time, func(*Outcome)) {}

// Close does nothing.
func (*Courier) Close(func(*Outcome)) {}
