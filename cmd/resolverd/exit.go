package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/resolverd/resolverd/cmd/resolverd/settings"
	"github.com/resolverd/resolverd/cmd/resolverd/supervisor"
)

// The exit codes, stable.
const (
	exitOK          = 0
	exitFailure     = 1 // anything not named below
	exitUsage       = 2 // the command line, the settings or the Corefile
	exitUnreachable = 3 // no resolverd answers where it was looked for
	exitNotFound    = 4 // the thing asked for is not there
	exitInUse       = 5 // another process holds the address or the data directory
	exitDenied      = 6 // the token or the permission is missing
)

const exitCodesHelp = `Exit codes of every command:

  0  done; also where there was nothing to do (a service that is registered already)
  1  failure that has no code of its own
  2  usage: a wrong command line, settings or Corefile; everything is told at once
  3  not reachable: no resolverd answers where it was looked for
  4  not found: no such service, instance or node
  5  in use: another process holds the address or the data directory
  6  denied: a token or a permission is missing`

// failure is an error with an exit code and, where there is one, a hint.
type failure struct {
	code int
	err  error
	hint string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func fail(code int, hint string, format string, args ...any) error {
	return &failure{code: code, err: fmt.Errorf(format, args...), hint: hint}
}

// usage marks an error of the command line.
func usage(cmd *cobra.Command, format string, args ...any) error {
	return fail(exitUsage, "resolverd help "+commandWords(cmd), format, args...)
}

func commandWords(cmd *cobra.Command) string {
	return strings.TrimPrefix(strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()), " ")
}

// report writes err to w in the form of the program and returns the exit code.
func report(w io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	var quiet silent
	if errors.As(err, &quiet) {
		return int(quiet)
	}
	var many faultList
	if errors.As(err, &many) {
		code := exitUsage
		for _, f := range many {
			say(w, f.text, f.hint)
			if f.code != 0 {
				code = f.code
			}
		}
		return code
	}
	var h *supervisor.Hopeless
	if errors.As(err, &h) {
		if h.Err == nil {
			return h.Exit.Code // the child has said why
		}
		hint := ""
		if errors.Is(err, fs.ErrPermission) {
			hint = "answerer.user must be allowed to read the program and the directories above it"
		}
		say(w, err.Error(), hint)
		return exitFailure
	}
	var f *failure
	if errors.As(err, &f) {
		say(w, f.Error(), f.hint)
		return f.code
	}
	say(w, err.Error(), "")
	return exitFailure
}

func say(w io.Writer, text, hint string) {
	fmt.Fprintf(w, "resolverd: error: %s\n", plain(text))
	if hint != "" {
		fmt.Fprintf(w, "hint: %s\n", plain(hint))
	}
}

// plain keeps output to printable ASCII and line ends, whatever a file or a peer says:
// a terminal obeys escape sequences.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || (r >= ' ' && r <= '~') {
			return r
		}
		return '?'
	}, s)
}

// faultList is several mistakes, all to be shown.
type faultList []fault

type fault struct {
	text, hint string
	code       int // 0 for exitUsage
}

func (l faultList) Error() string {
	t := make([]string, len(l))
	for i, f := range l {
		t[i] = f.text
	}
	return strings.Join(t, "\n")
}

// settingsError gives an error of settings.Load its exit code.
func settingsError(err error) error {
	var fs settings.Faults
	if errors.As(err, &fs) {
		l := make(faultList, len(fs))
		for i, f := range fs {
			l[i] = fault{text: f.String(), hint: f.Hint}
		}
		return l
	}
	return &failure{code: exitUsage, err: err}
}
