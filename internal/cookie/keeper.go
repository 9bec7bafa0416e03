package cookie

import (
	"crypto/rand"
	"sync/atomic"
	"time"
)

const (
	// rollEvery is the life of a random secret (RFC 7873, section 7.1).
	rollEvery = 24 * time.Hour
	// overlap is how much longer cookies that were made with it are taken.
	overlap = maxAge + maxLead
)

// Secret is 128 random bits. It does not print.
type Secret [16]byte

// String implements fmt.Stringer without telling.
func (Secret) String() string { return "(secret)" }

// GoString implements fmt.GoStringer without telling.
func (Secret) GoString() string { return "(secret)" }

// Keeper holds the secrets of a set of servers that take each other's cookies. It is safe
// for concurrent use.
type Keeper struct {
	fixed  []Secret
	rolled atomic.Pointer[roll]
}

// roll is a random secret and its predecessor. It is immutable.
type roll struct {
	secrets [2]Secret // the newer first
	since   time.Time // when the newer was made
}

// Fixed returns a keeper that makes cookies with the first of the secrets, of which there
// is at least one, and takes those that were made with any.
func Fixed(secrets []Secret) *Keeper { return &Keeper{fixed: secrets} }

// Random returns a keeper whose secret is random, and another one every day.
func Random() *Keeper { return &Keeper{} }

// Close implements io.Closer, for who keeps a keeper over a reload. It does nothing.
func (*Keeper) Close() error { return nil }

// secrets returns the secrets by which cookies are judged now, first that by which they
// are made.
func (k *Keeper) secrets(now time.Time) []Secret {
	if k.fixed != nil {
		return k.fixed
	}
	for {
		r := k.rolled.Load()
		if r != nil && now.Sub(r.since) < rollEvery {
			if now.Sub(r.since) > overlap {
				return r.secrets[:1]
			}
			return r.secrets[:]
		}
		next := &roll{since: now}
		_, _ = rand.Read(next.secrets[0][:]) // never fails
		if r != nil && now.Sub(r.since) < rollEvery+overlap {
			next.secrets[1] = r.secrets[0]
		} else {
			_, _ = rand.Read(next.secrets[1][:]) // nobody's
		}
		if k.rolled.CompareAndSwap(r, next) {
			return next.secrets[:]
		}
	}
}
