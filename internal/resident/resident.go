// Package resident keeps what outlives a Corefile reload.
//
// A CoreDNS reload builds every plugin anew, and the new instance starts before the
// old one stops. What must survive (a cache's packets, an upstream's health, the
// registry's view) therefore belongs to the process: a plugin's setup asks for it
// here by kind and key, and gets the one that its predecessor used.
//
// The Corefile loader brackets each load: [Begin], then the setups call [Get], then
// [Commit] closes what the new Corefile no longer asks for, or [Abort] closes what the
// refused one had opened. What the process provides to plugins from outside (the
// registry's view) is handed in with [Provide].
package resident

import (
	"fmt"
	"io"
	"sync"
)

type id struct{ kind, key string }

type entry struct {
	value   any
	created uint64 // generation that opened it
	held    uint64 // newest generation that asked for it
	before  uint64 // the held of the generation before, for Abort
}

// keeper is the process's one set of residents. A plugin's setup has no other way to
// reach its predecessor than through a package variable.
type keeper struct {
	mu         sync.Mutex // guards all below
	generation uint64
	entries    map[id]*entry
	provided   map[string]any
	blocks     []string
}

var process = &keeper{entries: map[id]*entry{}, provided: map[string]any{}, generation: 1}

// Get returns the resident of this kind and key, opening it where there is none. It is
// held until a Corefile is committed whose setups do not ask for it; then its Close is
// called. A resident stored under another type is an error: two kinds share a name.
func Get[T io.Closer](kind, key string, open func() (T, error)) (T, error) {
	process.mu.Lock()
	defer process.mu.Unlock()
	var zero T
	k := id{kind, key}
	if e := process.entries[k]; e != nil {
		v, ok := e.value.(T)
		if !ok {
			return zero, fmt.Errorf("resident: %s %q holds a %T, not a %T", kind, key, e.value, zero)
		}
		if e.held != process.generation {
			e.before, e.held = e.held, process.generation
		}
		return v, nil
	}
	v, err := open()
	if err != nil {
		return zero, err
	}
	process.entries[k] = &entry{value: v, created: process.generation, held: process.generation}
	return v, nil
}

// Each calls f with every resident of the kind that is a T, in no order. f must not
// call this package.
func Each[T any](kind string, f func(key string, v T)) {
	process.mu.Lock()
	defer process.mu.Unlock()
	for k, e := range process.entries {
		if k.kind != kind {
			continue
		}
		if v, ok := e.value.(T); ok {
			f(k.key, v)
		}
	}
}

// Begin opens a generation: the setups that run from here on belong to a new Corefile.
func Begin() {
	process.mu.Lock()
	defer process.mu.Unlock()
	process.generation++
}

// Commit ends the load: residents that the new Corefile did not ask for are closed.
// Their errors are joined by the caller's logger, hence returned one by one.
func Commit() []error {
	return process.sweep(func(e *entry, g uint64) bool { return e.held < g })
}

// Abort ends a load that failed: residents that only the refused Corefile asked for are
// closed, and the others are as they were before [Begin].
func Abort() []error {
	process.mu.Lock()
	g := process.generation
	for _, e := range process.entries {
		if e.created != g && e.held == g {
			e.held = e.before
		}
	}
	process.mu.Unlock()
	return process.sweep(func(e *entry, g uint64) bool { return e.created == g })
}

// Shutdown closes every resident; the process is about to end.
func Shutdown() []error {
	return process.sweep(func(*entry, uint64) bool { return true })
}

func (k *keeper) sweep(gone func(*entry, uint64) bool) []error {
	k.mu.Lock()
	var closing []io.Closer
	for i, e := range k.entries {
		if gone(e, k.generation) {
			closing = append(closing, e.value.(io.Closer))
			delete(k.entries, i)
		}
	}
	k.mu.Unlock()
	// Closing waits for goroutines: not under the lock.
	var errs []error
	for _, c := range closing {
		if err := c.Close(); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// Provide hands v to the plugins of this process under a name; it is never closed here.
func Provide(name string, v any) {
	process.mu.Lock()
	defer process.mu.Unlock()
	process.provided[name] = v
}

// Provided returns what was provided under the name, and whether it is there as a T.
func Provided[T any](name string) (T, bool) {
	process.mu.Lock()
	defer process.mu.Unlock()
	v, ok := process.provided[name].(T)
	return v, ok
}

// SetBlocks records the identity of each server block of the Corefile being loaded, in
// the file's order: a hash of its zones, horizon and the directives that make answers.
// The loader calls it between Begin and the setups.
func SetBlocks(hashes []string) {
	process.mu.Lock()
	defer process.mu.Unlock()
	process.blocks = hashes
}

// Block returns the identity of the server block at index (caddy.Controller's
// ServerBlockIndex), or "" where no loader set one, as in a plugin's own tests.
func Block(index int) string {
	process.mu.Lock()
	defer process.mu.Unlock()
	if index < 0 || index >= len(process.blocks) {
		return ""
	}
	return process.blocks[index]
}
