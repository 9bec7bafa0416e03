package relay

import "sync"

// ring holds the last frames, each encoded once, for all followers. It is bounded in
// octets and in frames; who has fallen out of it gets everything anew. So a slow follower
// costs nothing but its own place in it.
type ring struct {
	maxBytes, maxFrames int

	mu       sync.Mutex // guards all below
	frames   []ringFrame
	first    uint64 // number of frames[0]
	bytes    int
	floor    uint64 // every change after this revision is in frames
	revision uint64 // the newest
	ready    bool
	changed  chan struct{} // closed at the next change
}

type ringFrame struct {
	revision uint64
	data     []byte
}

func newRing(maxBytes, maxFrames int) *ring {
	return &ring{maxBytes: maxBytes, maxFrames: maxFrames, changed: make(chan struct{})}
}

func (r *ring) ring() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// add appends a frame of which encode is told the revision before it.
func (r *ring) add(revision uint64, encode func(previous uint64) []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	data := encode(r.revision)
	r.frames = append(r.frames, ringFrame{revision, data})
	r.bytes += len(data)
	r.revision = revision
	drop := 0
	for drop < len(r.frames) && (r.bytes > r.maxBytes || len(r.frames)-drop > r.maxFrames) {
		r.bytes -= len(r.frames[drop].data)
		r.floor = r.frames[drop].revision
		r.frames[drop] = ringFrame{}
		drop++
	}
	r.frames, r.first = r.frames[drop:], r.first+uint64(drop)
	r.ring()
}

// restart empties the ring: who follows needs everything at this revision or later.
func (r *ring) restart(revision uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.first += uint64(len(r.frames)) + 1 // nobody's place is valid any more
	r.frames, r.bytes = nil, 0
	r.floor, r.revision, r.ready = revision, revision, true
	r.ring()
}

// place returns the number of the first frame after the revision, and false where frames
// between are missing or the revision is of the future.
func (r *ring) place(revision uint64) (uint64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ready || revision < r.floor || revision > r.revision {
		return 0, false
	}
	for i, f := range r.frames {
		if f.revision > revision {
			return r.first + uint64(i), true
		}
	}
	return r.first + uint64(len(r.frames)), true
}

// from returns frames from this place on, up to about max octets, the place behind them,
// the newest revision, and a channel that is closed when there is more. ok is false where
// the place has fallen out of the ring.
func (r *ring) from(at uint64, max int) (frames [][]byte, next, revision uint64, more <-chan struct{}, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ready || at < r.first || at > r.first+uint64(len(r.frames)) {
		return nil, 0, r.revision, r.changed, false
	}
	size := 0
	for _, f := range r.frames[at-r.first:] {
		if size > 0 && size+len(f.data) > max {
			break
		}
		frames, size = append(frames, f.data), size+len(f.data)
	}
	return frames, at + uint64(len(frames)), r.revision, r.changed, true
}

func (r *ring) state() (ready bool, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ready, r.changed
}
