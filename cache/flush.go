package cache

import "github.com/miekg/dns"

// Flush drops everything and returns how many entries that were.
func (c *Cache) Flush() int {
	return c.flush(func([]byte) bool { return true })
}

// FlushName drops the entries of the name, of every type, and returns their number.
func (c *Cache) FlushName(name string) (int, error) {
	w, err := wireName(name)
	if err != nil {
		return 0, err
	}
	return c.flush(func(k []byte) bool { return string(keyName(k)) == string(w) }), nil
}

// FlushSuffix drops the entries of the name and of all names below it, and returns their
// number.
func (c *Cache) FlushSuffix(name string) (int, error) {
	w, err := wireName(name)
	if err != nil {
		return 0, err
	}
	return c.flush(func(k []byte) bool { return below(keyName(k), w) }), nil
}

// flush raises the epoch before it looks at the first entry: see Store. Queries that
// arrive from then on fetch anew instead of waiting for a fetch that began before.
func (c *Cache) flush(match func(key []byte) bool) int {
	c.epoch.Add(1)
	n := 0
	for i := range c.shard {
		s := &c.shard[i]
		s.mu.Lock()
		for _, e := range s.entries {
			if match(e.key()) {
				s.unlink(e)
				n++
			}
		}
		clear(s.flights)
		s.mu.Unlock()
	}
	if f := c.onFlush.Load(); f != nil {
		(*f)()
	}
	return n
}

func wireName(name string) ([]byte, error) {
	w := make([]byte, maxName+1)
	n, err := dns.PackDomainName(dns.Fqdn(name), w, 0, nil, false)
	if err != nil {
		return nil, errName
	}
	lower(w[:n])
	return w[:n], nil
}
