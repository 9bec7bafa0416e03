package source

import (
	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/catalog"
)

// NewMemory is the tests' store.
func NewMemory(v *registry.View) catalog.Store {
	return &memory{view: v, modified: map[registry.Key]uint64{}}
}
