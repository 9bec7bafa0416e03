package cookie

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

const (
	// maxSecrets is how many a file may hold: one in use, one before and one after it
	// (RFC 9018, section 5).
	maxSecrets = 3
	maxFile    = 4096 // octets
)

// ReadSecrets reads a file of one to three secrets, each a line of 32 hexadecimal digits;
// empty lines and those from # are passed over. Others than the file's owner and group
// must not be able to read or write it. No error tells what is in it.
func ReadSecrets(path string) ([]Secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cookie: %w", err)
	}
	defer f.Close()
	info, err := f.Stat() // of what was opened, whatever its name means now
	if err != nil {
		return nil, fmt.Errorf("cookie: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("cookie: %s is no regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 || mode&0o020 != 0 {
		return nil, fmt.Errorf("cookie: %s has mode %#o: others can get at the secret; chmod 600 it, and if they may have read it make a new one", path, mode)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("cookie: %w", err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("cookie: %s is larger than %d octets", path, maxFile)
	}
	secrets, err := parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("cookie: %s: %w", path, err)
	}
	return secrets, nil
}

func parse(text string) ([]Secret, error) {
	var secrets []Secret
	for i, l := range strings.Split(text, "\n") {
		l, _, _ = strings.Cut(l, "#")
		if l = strings.TrimSpace(l); l == "" {
			continue
		}
		var s Secret
		// The library's error names the digit that is none.
		if b, err := hex.DecodeString(l); err != nil || len(b) != len(s) {
			return nil, fmt.Errorf("line %d is no secret of %d hexadecimal digits, such as `openssl rand -hex %d` prints", i+1, 2*len(s), len(s))
		} else {
			copy(s[:], b)
		}
		if s == (Secret{}) {
			return nil, fmt.Errorf("line %d is zeros, which anybody guesses", i+1)
		}
		secrets = append(secrets, s)
	}
	switch {
	case len(secrets) == 0:
		return nil, errors.New("no secret is in it")
	case len(secrets) > maxSecrets:
		return nil, fmt.Errorf("%d secrets, at most %d", len(secrets), maxSecrets)
	}
	return secrets, nil
}
