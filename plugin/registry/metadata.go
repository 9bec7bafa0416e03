package registry

import (
	"context"
	"strconv"

	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/request"
	"github.com/resolverd/resolverd/registry/names"
)

var _ metadata.Provider = (*Handler)(nil)

// Metadata implements metadata.Provider: for names below a zone, registry/zone,
// registry/kind (what the grammar makes of the name), registry/service (empty for other
// names) and registry/revision (of the view).
func (h *Handler) Metadata(ctx context.Context, state request.Request) context.Context {
	z := h.match(state.Name())
	if z == nil {
		return ctx
	}
	qname := state.QName()
	parse := func() names.Question { q, _ := z.Parse(qname); return q }
	metadata.SetValueFunc(ctx, "registry/zone", func() string { return z.Origin })
	metadata.SetValueFunc(ctx, "registry/kind", func() string { return parse().Kind.String() })
	metadata.SetValueFunc(ctx, "registry/service", func() string {
		if q := parse(); q.Kind == names.KindService || q.Kind == names.KindInstance {
			return q.Name
		}
		return ""
	})
	metadata.SetValueFunc(ctx, "registry/revision", func() string {
		return strconv.FormatUint(h.view.Load().Revision, 10)
	})
	return ctx
}
