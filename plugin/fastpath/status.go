package fastpath

import (
	"cmp"
	"slices"
	"strings"
)

// Status says where the fast path is on, and where it is not, why.
type Status struct {
	Listeners []ListenerStatus `json:"listeners"`
}

// ListenerStatus is one listener, named as CoreDNS's metrics do.
type ListenerStatus struct {
	Listener string        `json:"listener"`
	On       bool          `json:"on"`
	Reason   string        `json:"reason,omitempty"` // why not
	Hits     uint64        `json:"hits"`             // since the Corefile was loaded
	Relayed  uint64        `json:"relayed"`
	Misses   uint64        `json:"misses"`
	Dropped  uint64        `json:"dropped"`
	Blocks   []BlockStatus `json:"blocks"`
}

// BlockStatus is one server block on a listener.
type BlockStatus struct {
	Zones  []string `json:"zones"`
	On     bool     `json:"on"`
	Reason string   `json:"reason,omitempty"` // why not
	// Relayed says that plain queries go to the upstreams without the plugins.
	Relayed     bool   `json:"relayed"`
	RelayReason string `json:"relay_reason,omitempty"` // why not
}

// Current returns the status of the Corefile that is served, sorted by listener.
func Current() Status {
	s := Status{Listeners: []ListenerStatus{}}
	f := current.Load()
	if f == nil {
		return s
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.listeners {
		ls := ListenerStatus{Listener: l.name, On: l.gen != nil, Reason: l.reason, Blocks: []BlockStatus{}}
		if l.gen != nil {
			c := l.gen.Counts()
			ls.Hits, ls.Relayed, ls.Misses, ls.Dropped = c.Hits, c.Relayed, c.Misses, c.Dropped
		}
		for _, b := range l.blocks {
			bs := BlockStatus{On: b.reason == "" && ls.On, Reason: b.reason, RelayReason: cmp.Or(b.relay, b.reason, l.reason)}
			bs.Relayed = bs.RelayReason == ""
			for _, c := range b.configs {
				bs.Zones = append(bs.Zones, c.Zone)
			}
			ls.Blocks = append(ls.Blocks, bs)
		}
		s.Listeners = append(s.Listeners, ls)
	}
	slices.SortFunc(s.Listeners, func(a, b ListenerStatus) int { return strings.Compare(a.Listener, b.Listener) })
	return s
}
