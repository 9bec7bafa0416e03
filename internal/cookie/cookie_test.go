package cookie

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func secret(s string) (out Secret) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(out) {
		panic(s)
	}
	copy(out[:], b)
	return out
}

func octets(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	secretA = "e5e973e5a6b2a43f48e7dc849e37bfcf"
	clientA = "2464c4abcf10c957"
	cookieA = "2464c4abcf10c957010000005cf79f111f8130c3eee29480"
	timeA   = 1559731985
)

// TestVectors are those of RFC 9018, appendix A.
func TestVectors(t *testing.T) {
	for name, tc := range map[string]struct {
		secrets      []string
		from, option string
		now          int64
		state        State
		want         string
	}{
		"A.1 learning a new server cookie": {
			[]string{secretA},
			"198.51.100.100", clientA, timeA,
			Stranger, cookieA,
		},
		"A.2 the same client learning a renewed one": {
			[]string{secretA},
			"198.51.100.100", cookieA, 1559734385,
			Good, "2464c4abcf10c957010000005cf7a871d4a564a1442aca77",
		},
		// The example's cookie has reserved bits, and is older than section 4.3 allows: it is
		// good for its hour, and afterwards brings the same new one.
		"A.3 another client, within the hour": {
			[]string{secretA},
			"203.0.113.203", "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", 1559727985 + 60,
			Good, "",
		},
		"A.3 another client learning a renewed one": {
			[]string{secretA},
			"203.0.113.203", "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", 1559734700,
			Stranger, "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e",
		},
		"A.4 IPv6, with a secret rolled over": {
			[]string{"445536bcd2513298075a5d379663c962", "dd3bdf9344b678b185a6f5cb60fca715"},
			"2001:db8:220:1:59de:d0f4:8769:82b8",
			"22681ab97d52c298010000005cf7c57926556bd0934c72f8", 1559741961,
			Good, "22681ab97d52c298010000005cf7c609a6bb79d16625507a",
		},
		"A.4 before the secret was known": {
			[]string{"445536bcd2513298075a5d379663c962"},
			"2001:db8:220:1:59de:d0f4:8769:82b8",
			"22681ab97d52c298010000005cf7c57926556bd0934c72f8", 1559741961,
			Stranger, "22681ab97d52c298010000005cf7c609a6bb79d16625507a",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var all []Secret
			for _, s := range tc.secrets {
				all = append(all, secret(s))
			}
			state, got := Fixed(all).Judge(octets(t, tc.option), netip.MustParseAddr(tc.from), time.Unix(tc.now, 0))
			if state != tc.state {
				t.Errorf("state %d, want %d", state, tc.state)
			}
			if hex.EncodeToString(got[:]) != tc.want && tc.want != "" {
				t.Errorf("got  %x\nwant %s", got, tc.want)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	k := Fixed([]Secret{secret(secretA)})
	from, other := netip.MustParseAddr("198.51.100.100"), netip.MustParseAddr("198.51.100.101")
	for name, tc := range map[string]struct {
		option string
		from   netip.Addr
		after  time.Duration
		state  State
		same   bool
	}{
		"at once":             {cookieA, from, 0, Good, true},
		"mapped":              {cookieA, netip.MustParseAddr("::ffff:198.51.100.100"), 0, Good, true},
		"young":               {cookieA, from, young - time.Second, Good, true},
		"no longer young":     {cookieA, from, young, Good, false},
		"at its end":          {cookieA, from, maxAge, Good, false},
		"too old":             {cookieA, from, maxAge + time.Second, Stranger, false},
		"from a clock ahead":  {cookieA, from, -maxLead, Good, false},
		"from the future":     {cookieA, from, -maxLead - time.Second, Stranger, false},
		"another address":     {cookieA, other, 0, Stranger, false},
		"another client":      {"3464c4abcf10c957" + cookieA[16:], from, 0, Stranger, false},
		"another hash":        {cookieA[:46] + "81", from, 0, Stranger, false},
		"another time":        {cookieA[:30] + "12" + cookieA[32:], from, 0, Stranger, false},
		"another version":     {cookieA[:16] + "02" + cookieA[18:], from, 0, Stranger, false},
		"client alone":        {clientA, from, 0, Stranger, false},
		"of another server":   {clientA + strings.Repeat("ab", 8), from, 0, Stranger, false},
		"the longest":         {clientA + strings.Repeat("ab", 32), from, 0, Stranger, false},
		"nothing":             {"", from, 0, Malformed, false},
		"less than a client":  {clientA[:14], from, 0, Malformed, false},
		"between the lengths": {clientA + "00", from, 0, Malformed, false},
		"a server too short":  {clientA + strings.Repeat("ab", 7), from, 0, Malformed, false},
		"a server too long":   {clientA + strings.Repeat("ab", 33), from, 0, Malformed, false},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(timeA, 0).Add(tc.after)
			state, got := k.Judge(octets(t, tc.option), tc.from, now)
			if state != tc.state {
				t.Fatalf("state %d, want %d", state, tc.state)
			}
			if state == Malformed {
				return
			}
			if same := hex.EncodeToString(got[:]) == tc.option; same != tc.same {
				t.Errorf("answered by %x", got)
			}
			if again, _ := k.Judge(got[:], tc.from, now); again != Good {
				t.Error("what is sent is not taken back")
			}
		})
	}
	// Seconds come round in 2106 (RFC 1982).
	late := time.Unix(1<<32-10, 0)
	_, c := k.Judge(octets(t, clientA), from, late)
	if state, _ := k.Judge(c[:], from, late.Add(time.Minute)); state != Good {
		t.Error("the seconds came round")
	}
}

func TestRandomRolls(t *testing.T) {
	k, from := Random(), netip.MustParseAddr("2001:db8::1")
	now := time.Unix(timeA, 0)
	client := octets(t, clientA)
	_, first := k.Judge(client, from, now)
	if state, _ := k.Judge(first[:], from, now.Add(time.Minute)); state != Good {
		t.Error("the first is not taken")
	}
	if _, other := Random().Judge(client, from, now); other == first {
		t.Error("the secret is not random")
	}
	_, last := k.Judge(client, from, now.Add(rollEvery-time.Second))
	rolled := now.Add(rollEvery)
	_, next := k.Judge(client, from, rolled)
	state, renewed := k.Judge(last[:], from, rolled.Add(time.Minute))
	if state != Good || renewed == last {
		t.Errorf("made a second before the roll: state %d, renewed %v", state, renewed != last)
	}
	if state, _ := k.Judge(next[:], from, rolled.Add(time.Minute)); state != Good {
		t.Error("made after the roll")
	}
	// A secret that is out of use makes no good cookie, whatever its time.
	old := k.rolled.Load().secrets[1]
	forged := old.bake(client, version<<24, uint32(rolled.Add(2*time.Hour).Unix()), from)
	if state, _ := k.Judge(forged[:], from, rolled.Add(2*time.Hour)); state != Stranger {
		t.Error("an old secret is still taken")
	}
	// After a long silence the secret is not only replaced, but forgotten.
	cur := k.rolled.Load().secrets[0]
	later := rolled.Add(90 * time.Hour)
	forged = cur.bake(client, version<<24, uint32(later.Unix()), from)
	if state, _ := k.Judge(forged[:], from, later); state != Stranger {
		t.Error("a secret that is long due is taken")
	}
}

func TestNoAllocation(t *testing.T) {
	k, from, now := Random(), netip.MustParseAddr("2001:db8::1"), time.Now()
	option := octets(t, cookieA)
	if n := testing.AllocsPerRun(1000, func() { k.Judge(option, from, now) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestReadSecrets(t *testing.T) {
	other := "445536bcd2513298075a5d379663c962"
	for name, tc := range map[string]struct {
		text string
		mode os.FileMode
		n    int
		want string // of the error
	}{
		"one":          {secretA + "\n", 0o600, 1, ""},
		"no newline":   {secretA, 0o400, 1, ""},
		"group":        {secretA, 0o640, 1, ""},
		"three":        {"# in use\n" + strings.ToUpper(secretA) + "  # since May\n\n" + other + "\n" + other + "\n", 0o600, 3, ""},
		"four":         {strings.Repeat(other+"\n", 4), 0o600, 0, "4 secrets, at most 3"},
		"none":         {"# soon\n", 0o600, 0, "no secret is in it"},
		"short":        {secretA[:30], 0o600, 0, "line 1 is no secret of 32 hexadecimal digits"},
		"no digits":    {secretA + "\n" + secretA[:31] + "x", 0o600, 0, "line 2 is no secret"},
		"zeros":        {strings.Repeat("0", 32), 0o600, 0, "line 1 is zeros"},
		"large":        {strings.Repeat("#", 5000), 0o600, 0, "larger than 4096 octets"},
		"others read":  {secretA, 0o604, 0, "has mode 0604"},
		"others write": {secretA, 0o602, 0, "has mode 0602"},
		"group writes": {secretA, 0o620, 0, "has mode 0620"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(file, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(file, tc.mode); err != nil {
				t.Fatal(err)
			}
			got, err := ReadSecrets(file)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Fatalf("error %v, want %q", err, tc.want)
			}
			if len(got) != tc.n || tc.n > 0 && got[0] != secret(secretA) {
				t.Errorf("%d secrets", len(got))
			}
			if err != nil && strings.Contains(err.Error(), secretA[:12]) {
				t.Errorf("the error tells the secret: %v", err)
			}
		})
	}
	if _, err := ReadSecrets(t.TempDir()); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a folder: %v", err)
	}
	if _, err := ReadSecrets(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("no file")
	}
}

func TestSecretDoesNotPrint(t *testing.T) {
	s := secret(secretA)
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s", s, []Secret{s}, s, &s)} {
		if strings.Contains(text, secretA[:4]) || strings.Contains(text, "229") {
			t.Error(text)
		}
	}
}

func FuzzJudge(f *testing.F) {
	b, _ := hex.DecodeString(cookieA)
	f.Add(b, "198.51.100.100", int64(timeA))
	f.Add(b[:8], "::1", int64(timeA))
	f.Add([]byte{}, "x", int64(-5))
	k := Fixed([]Secret{secret(secretA)})
	f.Fuzz(func(t *testing.T, option []byte, from string, now int64) {
		a, _ := netip.ParseAddr(from)
		if !a.IsValid() {
			a = netip.IPv6Loopback()
		}
		state, c := k.Judge(option, a, time.Unix(now, 0))
		if n := len(option); (state == Malformed) != (n < 8 || n > 8 && n < 16 || n > 40) {
			t.Fatalf("%d octets are %d", n, state)
		}
		if state == Malformed {
			return
		}
		if string(c[:ClientLen]) != string(option[:ClientLen]) {
			t.Fatal("another client's cookie")
		}
		if state == Good && len(option) != Len {
			t.Fatal("a foreign cookie is good")
		}
	})
}
