package cache

import (
	"cmp"
	"slices"

	"github.com/miekg/dns"
)

// Stats is what a cache holds and did since it was opened.
type Stats struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	Budget int64  `json:"budget"`

	Success int `json:"success_entries"`
	Denial  int `json:"denial_entries"`

	SuccessHits uint64 `json:"success_hits"`
	DenialHits  uint64 `json:"denial_hits"`
	StaleHits   uint64 `json:"stale_hits"`
	Misses      uint64 `json:"misses"`

	Stored           uint64 `json:"stored"`
	Refused          uint64 `json:"refused"`
	SuccessEvictions uint64 `json:"success_evictions"`
	DenialEvictions  uint64 `json:"denial_evictions"`

	// Fetches counts fetches begun, Refreshes those of them that were prefetches or for
	// stale data; Shared the queries that were answered by another's fetch; Flying the
	// fetches under way.
	Fetches   uint64 `json:"fetches"`
	Refreshes uint64 `json:"refreshes"`
	Shared    uint64 `json:"shared"`
	Flying    int64  `json:"flying"`
}

// Stats returns the numbers of now. It takes each shard's lock for reading in turn.
func (c *Cache) Stats() Stats {
	st := Stats{
		Name: c.name, Budget: c.bytes.Load(),
		Fetches: c.fetches.Load(), Refreshes: c.refreshes.Load(), Shared: c.shared.Load(), Flying: c.flying.Load(),
	}
	for i := range c.shard {
		s := &c.shard[i]
		s.mu.RLock()
		st.Bytes += s.bytes()
		st.Success += s.count(0)
		st.Denial += s.count(1)
		s.mu.RUnlock()
		st.SuccessHits += s.hits[0].Load()
		st.DenialHits += s.hits[1].Load()
		st.StaleHits += s.stale[0].Load() + s.stale[1].Load()
		st.Misses += s.misses[0].Load()
		st.Stored += s.stored.Load()
		st.Refused += s.refused.Load()
		st.SuccessEvictions += s.evicted[0].Load()
		st.DenialEvictions += s.evicted[1].Load()
	}
	return st
}

// Counts returns the number of answers and of denials that are stored.
func (c *Cache) Counts() (success, denial int) {
	return int(c.total[0].Load()), int(c.total[1].Load())
}

// Zone is what is stored below one suffix.
type Zone struct {
	Suffix  string `json:"suffix"`
	Entries int    `json:"entries"`
	Bytes   int64  `json:"bytes"`
}

// Zones returns the n suffixes of two labels (three below in-addr.arpa and ip6.arpa)
// with the most octets, the largest first. It walks all entries: for a person who asks.
func (c *Cache) Zones(n int) []Zone {
	by := map[string]*Zone{}
	for i := range c.shard {
		s := &c.shard[i]
		s.mu.RLock()
		for _, e := range s.entries {
			suffix := keySuffix(keyName(e.key()))
			z := by[string(suffix)]
			if z == nil {
				z = &Zone{}
				by[string(suffix)] = z
			}
			z.Entries++
			z.Bytes += e.cost()
		}
		s.mu.RUnlock()
	}
	out := make([]Zone, 0, len(by))
	for wire, z := range by {
		z.Suffix, _, _ = dns.UnpackDomainName([]byte(wire), 0)
		out = append(out, *z)
	}
	slices.SortFunc(out, func(a, b Zone) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Suffix, b.Suffix))
	})
	return out[:min(n, len(out))]
}

// keySuffix returns the part of a wire name that Zones groups by.
func keySuffix(name []byte) []byte {
	labels := 0
	for i := 0; name[i] != 0; i += 1 + int(name[i]) {
		labels++
	}
	want := 2
	if below(name, []byte("\x07in-addr\x04arpa\x00")) || below(name, []byte("\x03ip6\x04arpa\x00")) {
		want = 3
	}
	for ; labels > want; labels-- {
		name = name[1+int(name[0]):]
	}
	return name
}
