package registry

import "github.com/coredns/coredns/plugin/ready"

var _ ready.Readiness = (*Handler)(nil)

// Ready implements ready.Readiness: a server is not ready before the registry's view
// has been filled, from disk or from the store.
func (h *Handler) Ready() bool { return h.view.Loaded() }
