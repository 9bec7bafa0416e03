package cookie

import (
	"crypto/subtle"
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/dchest/siphash"
)

// Lengths in octets of a client cookie, of a server cookie that we make, and of both (RFC
// 9018, section 4).
const (
	ClientLen = 8
	ServerLen = 16
	Len       = ClientLen + ServerLen
)

const (
	// minLen and maxLen bound an option with a server cookie (RFC 7873, section 4).
	minLen, maxLen = 16, 40

	version = 1
	// maxAge and maxLead bound how far a cookie's time may be off, and young is until when
	// it is given again as it is (RFC 9018, section 4.3).
	maxAge  = time.Hour
	maxLead = 5 * time.Minute
	young   = 30 * time.Minute
)

// State is what is known of a client by its COOKIE option.
type State uint8

// The states.
const (
	// None is a query without the option.
	None State = iota
	// Malformed is an option of a length that none has: FORMERR (RFC 7873, section 5.2.2).
	Malformed
	// Stranger is one with a client cookie alone, or with a server cookie that is not, or no
	// longer, good: RFC 7873, sections 5.2.3 and 5.2.4, treats both alike.
	Stranger
	// Good is one with a server cookie that was sent to this address.
	Good
)

// Cookie is the content of a COOKIE option with both cookies.
type Cookie [Len]byte

// bake returns the cookie for a client cookie and an address at the time, head being
// version and reserved octets (RFC 9018, section 4.4).
func (s *Secret) bake(client []byte, head uint32, seconds uint32, from netip.Addr) Cookie {
	var c Cookie
	copy(c[:], client[:ClientLen])
	binary.BigEndian.PutUint32(c[8:], head)
	binary.BigEndian.PutUint32(c[12:], seconds)
	var in [16 + 16]byte
	n := copy(in[:], c[:16])
	if from = from.Unmap(); from.Is4() {
		a := from.As4()
		n += copy(in[n:], a[:])
	} else {
		a := from.As16()
		n += copy(in[n:], a[:])
	}
	h := siphash.Hash(binary.LittleEndian.Uint64(s[:]), binary.LittleEndian.Uint64(s[8:]), in[:n])
	binary.LittleEndian.PutUint64(c[16:], h)
	return c
}

// good says whether the option's server cookie was made with the secret for the address,
// and how old it is. It takes the same time whichever octet is wrong.
func (s *Secret) good(option []byte, from netip.Addr, now time.Time) (time.Duration, bool) {
	if len(option) != Len || option[8] != version {
		return 0, false
	}
	seconds := binary.BigEndian.Uint32(option[12:])
	// Serial number arithmetic (RFC 1982) over 32 bits of seconds.
	age := time.Duration(int32(uint32(now.Unix())-seconds)) * time.Second
	want := s.bake(option, binary.BigEndian.Uint32(option[8:]), seconds, from)
	same := subtle.ConstantTimeCompare(want[:], option) == 1
	return age, same && age <= maxAge && age >= -maxLead
}

// Judge judges the content of a COOKIE option that came from the address, and returns the
// cookie for the response; where it is malformed there is none. now is read as the time
// of day.
func (k *Keeper) Judge(option []byte, from netip.Addr, now time.Time) (State, Cookie) {
	if n := len(option); n != ClientLen && (n < minLen || n > maxLen) {
		return Malformed, Cookie{}
	}
	secrets := k.secrets(now)
	state := Stranger
	for i := range secrets {
		age, ok := secrets[i].good(option, from, now)
		if !ok {
			continue
		}
		state = Good
		if i == 0 && age >= 0 && age < young && option[9]|option[10]|option[11] == 0 {
			return Good, Cookie(option)
		}
	}
	return state, secrets[0].bake(option, version<<24, uint32(now.Unix()), from)
}
