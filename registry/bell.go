package registry

import "sync"

// Topic is something that a reader waits to see changed.
type Topic struct {
	Kind TopicKind
	Name string // folded; "" for the lists
}

// TopicKind says of what kind a topic is.
type TopicKind uint8

// The topics. A change of a list rings its topic as well as those of the parts.
const (
	TopicServices  TopicKind = iota // the list of services and tags
	TopicNodes                      // the list of nodes
	TopicChecks                     // any check
	TopicInstances                  // any instance
	TopicService                    // one service, by name, there or not
	TopicNode                       // one node, by name, there or not
	TopicAny                        // any revision
)

// bells wakes waiters by topic. A bell is there only while somebody waits.
type bells struct {
	mu  sync.Mutex // guards all
	all map[Topic]*bell
}

type bell struct {
	ch      chan struct{}
	waiters int
}

func (b *bells) listen(t Topic) (<-chan struct{}, func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all == nil {
		b.all = map[Topic]*bell{}
	}
	l := b.all[t]
	if l == nil {
		l = &bell{ch: make(chan struct{})}
		b.all[t] = l
	}
	l.waiters++
	var once sync.Once
	return l.ch, func() { once.Do(func() { b.leave(t, l) }) }
}

func (b *bells) leave(t Topic, l *bell) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.waiters--; l.waiters == 0 && b.all[t] == l {
		delete(b.all, t)
	}
}

func (b *bells) ring(topics map[Topic]struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.all) == 0 {
		return
	}
	for t := range topics {
		if l := b.all[t]; l != nil {
			close(l.ch)
			delete(b.all, t)
		}
	}
}
