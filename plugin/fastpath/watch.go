package fastpath

import (
	"errors"
	"strings"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/dnstap"

	"github.com/resolverd/resolverd/internal/answer"
)

// watching returns what of h wants to be told of each repetition, or nil. Stock dnstap
// does not know that it can be.
func watching(h plugin.Handler) answer.Watching {
	switch h := h.(type) {
	case answer.Watching:
		return h
	case *dnstap.Dnstap:
		return tapsOf(h)
	}
	return nil
}

// taps are the dnstap handlers of a block, first to last.
type taps []*tap

// tapsOf returns first and the taps that follow it in the chain.
func tapsOf(first *dnstap.Dnstap) taps {
	var all taps
	for h, ok := first, true; ok && h != nil; h, ok = h.Next.(*dnstap.Dnstap) {
		all = append(all, &tap{h})
	}
	return all
}

// Watches implements answer.Watching.
func (ts taps) Watches() error {
	for _, t := range ts {
		if strings.Contains(t.ExtraFormat, "{/") {
			return errors.New("dnstap's extra has metadata, which may differ for each query")
		}
	}
	return nil
}
