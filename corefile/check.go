package corefile

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/coredns/caddy"

	"github.com/resolverd/resolverd/internal/resident"
)

// errChecked stops caddy after the servers were made and before they start.
var errChecked = errors.New("corefile: checked")

var (
	checking     atomic.Bool
	registerOnce sync.Once
)

// Check finds what is wrong with the Corefile of src without starting it: everything
// that [Load] finds, and bad arguments. The error is [Faults]. It runs the plugins' setups, which may open files and look up host names, so
// it belongs into a process that serves nothing (resolverd check) and must not run
// while a [Runner] of the process starts or reloads.
func Check(src Source) (*Loaded, error) {
	l, err := Load(src)
	if err != nil {
		return nil, err
	}
	registerOnce.Do(func() {
		caddy.RegisterParsingCallback("dns", directives[len(directives)-1], func(ctx caddy.Context) error {
			if !checking.Load() {
				return nil
			}
			if _, err := ctx.MakeServers(); err != nil {
				return err
			}
			return errChecked
		})
	})
	checking.Store(true)
	defer checking.Store(false)
	resident.Begin()
	defer resident.Abort()
	resident.Provide(ListenersName, l.Listeners)
	if err := startCaddy(l); !errors.Is(err, errChecked) {
		if err == nil {
			return nil, fmt.Errorf("corefile: %s started instead of being checked", l.Path)
		}
		return nil, Faults{faultOf(err, l)}
	}
	return l, nil
}

// startCaddy starts the Corefile and turns a plugin's panic in its setup into an error.
func startCaddy(l *Loaded) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("a plugin's setup panicked: %v", r)
		}
	}()
	_, err = caddy.Start(l.input())
	return err
}
