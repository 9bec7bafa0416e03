package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/resolverd/resolverd/registry"
)

// FollowerConfig says whom to follow and what to keep current. View and either Path or
// Dial are required.
type FollowerConfig struct {
	// Path is the hub's socket.
	Path string
	// Dial replaces dialling Path.
	Dial func(context.Context) (net.Conn, error)
	// View is kept current; the follower is its one writer.
	View *registry.View
	// Disk keeps what the view shows over a restart; may be nil. It must have been
	// loaded into View before, or the view be empty.
	Disk *Disk
	// Name is who this is, for people.
	Name string
	// Log takes connections that come and go; default slog.Default().
	Log *slog.Logger
	// Silence is how long the hub may say nothing before it is taken for dead, default
	// 5 s; it ticks each second.
	Silence time.Duration
	// Now is the clock of the view's age; default time.Now.
	Now func() time.Time
}

// Follower keeps a view as a hub tells it.
type Follower struct {
	cfg   FollowerConfig
	log   *slog.Logger
	store uint64 // identity of the store that the view shows

	connected atomic.Bool
	sessions  atomic.Uint64
	wholes    atomic.Uint64
	batches   atomic.Uint64
	records   atomic.Uint64
	faults    atomic.Uint64
}

// FollowerStats are counters since the start of the process.
type FollowerStats struct {
	Connected bool   // to the hub, now
	Sessions  uint64 // connections that the hub welcomed
	Wholes    uint64 // times that everything was sent
	Batches   uint64 // batches applied
	Records   uint64 // records in them
	Faults    uint64 // records or frames that could not be read
}

const (
	// mergeMax is how many records of frames that have come already are applied at once.
	mergeMax = 1000
	// maxRecords bounds what the hub may announce as a whole.
	maxRecords  = 16 << 20
	dialTimeout = 5 * time.Second
	absentWait  = 100 * time.Millisecond
	// absence is how long the hub may be away before it is told of.
	absence = time.Second
)

// NewFollower returns a follower; Run starts it.
func NewFollower(cfg FollowerConfig) *Follower {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Silence <= 0 {
		cfg.Silence = 5 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Dial == nil {
		path := cfg.Path
		cfg.Dial = func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", path)
		}
	}
	f := &Follower{cfg: cfg, log: cfg.Log}
	if cfg.Disk != nil {
		f.store = cfg.Disk.Store()
	}
	return f
}

// Stats returns the counters. For any goroutine.
func (f *Follower) Stats() FollowerStats {
	return FollowerStats{
		Connected: f.connected.Load(), Sessions: f.sessions.Load(), Wholes: f.wholes.Load(),
		Batches: f.batches.Load(), Records: f.records.Load(), Faults: f.faults.Load(),
	}
}

// Run follows until the context ends, and connects again whenever the hub goes, at first
// after 20 ms, then less and less often, at least every 2 s, and every 100 ms where nobody
// listens.
func (f *Follower) Run(ctx context.Context) {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 20*time.Millisecond, 2*time.Second
	said, since := "", time.Now()
	for {
		before := f.sessions.Load()
		err := f.session(ctx)
		f.connected.Store(false)
		if ctx.Err() != nil {
			return
		}
		fault := errors.Is(err, ErrDamaged) || errors.Is(err, ErrNewer) || errors.Is(err, errGap)
		if f.sessions.Load() != before && !fault {
			b.Reset()
			said, since = "", time.Now()
		}
		// An agent that is down is told of once, one that starts beside us not at all.
		if s := err.Error(); s != said && (fault || time.Since(since) >= absence) {
			said = s
			f.log.Warn("relay: not connected, answers come from what is known", "error", err)
		}
		wait := b.NextBackOff()
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			// Nobody listens yet: asking costs next to nothing, and what is registered the
			// moment that the agent is up is to resolve.
			wait = min(wait, absentWait)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

var (
	errBye = errors.New("relay: the agent stopped")
	errGap = errors.New("relay: changes are missing")
)

// session is one connection, from the hello to its end. It never returns nil.
func (f *Follower) session(ctx context.Context) error {
	c, err := f.cfg.Dial(ctx)
	if err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	revision := uint64(0)
	if f.cfg.View.Loaded() {
		revision = f.cfg.View.Load().Revision
	}
	s := &session{f: f, conn: c, r: newReader(c, MaxPayload)}
	if err := s.write(appendHello(nil, hello{version: Version, store: f.store, revision: revision, name: f.cfg.Name})); err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	for {
		t, payload, err := s.next()
		if err == nil {
			err = s.take(t, payload)
		}
		if err == nil && !s.r.more() {
			err = s.flush()
		}
		if err != nil {
			return s.ended(err)
		}
	}
}

// session is the state of one connection.
type session struct {
	f    *Follower
	conn net.Conn
	r    *reader
	hub  welcome
	met  bool

	whole   *begin // being received
	parts   []registry.Record
	pending registry.Batch // deltas that are not yet applied
}

func (s *session) ended(err error) error {
	if errors.Is(err, ErrDamaged) || errors.Is(err, ErrNewer) {
		s.f.faults.Add(1)
	}
	if errors.Is(err, ErrDamaged) || errors.Is(err, errGap) {
		s.f.store = 0 // ask for everything
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("relay: the agent closed the connection")
	}
	return err
}

func (s *session) next() (Type, []byte, error) {
	// On a connection that is closed this fails, but what came before is in the reader
	// yet, and reading says the same.
	_ = s.conn.SetReadDeadline(time.Now().Add(s.f.cfg.Silence))
	return s.r.next()
}

func (s *session) write(b []byte) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(dialTimeout)); err != nil {
		return err
	}
	_, err := s.conn.Write(b)
	return err
}

// take acts on one frame.
func (s *session) take(t Type, payload []byte) (err error) {
	if !s.met && t != typeWelcome {
		return fmt.Errorf("%w: type %d before the welcome", ErrDamaged, t)
	}
	switch t {
	case typeWelcome:
		if s.hub, err = parseWelcome(payload); err != nil {
			return err
		}
		s.met = true
		s.f.sessions.Add(1)
		s.f.connected.Store(true)
		s.f.log.Info("relay: following", "node", s.hub.node, "revision", s.hub.revision)
	case typeWholeBegin:
		w, err := parseBegin(payload)
		if err != nil {
			return err
		}
		if w.count > maxRecords {
			return fmt.Errorf("%w: %d records announced", ErrDamaged, w.count)
		}
		s.whole, s.parts, s.pending = &w, nil, registry.Batch{}
	case typeWholePart:
		if s.whole == nil {
			return fmt.Errorf("%w: a part without a beginning", ErrDamaged)
		}
		if s.parts, err = parsePart(payload, s.parts); err != nil {
			return err
		}
		if uint64(len(s.parts)) > s.whole.count {
			return fmt.Errorf("%w: more records than announced", ErrDamaged)
		}
	case typeWholeEnd:
		return s.wholeEnd(payload)
	case typeRecords:
		return s.records(payload)
	case typeTick:
		_, err = parseTick(payload)
	case typeBye:
		return errBye
	}
	if err == nil && t == typeTick {
		s.f.cfg.View.Heard(s.f.cfg.Now())
	}
	return err
}

func (s *session) wholeEnd(payload []byte) error {
	n, err := parseNumber(payload)
	if err != nil {
		return err
	}
	if s.whole == nil || n != s.whole.count || n != uint64(len(s.parts)) {
		return fmt.Errorf("%w: a whole of %d records ends after %d", ErrDamaged, n, len(s.parts))
	}
	b := registry.Batch{Revision: s.whole.revision, Whole: true, Records: s.parts}
	s.f.store = s.whole.store
	s.whole, s.parts = nil, nil
	s.f.wholes.Add(1)
	s.apply(b)
	return s.ack(b.Revision)
}

// records takes what one revision changed, and applies it together with what has come
// behind it already.
func (s *session) records(payload []byte) error {
	previous, b, err := parseRecords(payload)
	if err != nil {
		return err
	}
	if s.whole != nil {
		return fmt.Errorf("%w: changes within a whole", ErrDamaged)
	}
	have := max(s.pending.Revision, s.f.cfg.View.Load().Revision)
	if b.Revision <= have {
		return nil
	}
	if previous > have || !s.f.cfg.View.Loaded() {
		return fmt.Errorf("%w: from %d to %d", errGap, have, previous)
	}
	if s.pending.Records == nil {
		s.pending.Records = b.Records
	} else {
		s.pending.Records = append(s.pending.Records, b.Records...)
	}
	s.pending.Revision = b.Revision
	if len(s.pending.Records) >= mergeMax {
		return s.flush()
	}
	return nil
}

// flush applies what is pending.
func (s *session) flush() error {
	if s.pending.Revision == 0 {
		return nil
	}
	b := s.pending
	s.pending = registry.Batch{}
	s.apply(b)
	return s.ack(b.Revision)
}

func (s *session) ack(revision uint64) error {
	return s.write(appendNumber(nil, typeAck, revision))
}

func (s *session) apply(b registry.Batch) {
	f := s.f
	previous := f.cfg.View.Load().Revision
	if err := f.cfg.View.Apply(b); err != nil {
		f.faults.Add(1)
		f.log.Warn("relay: records left out", "revision", b.Revision, "error", err)
	}
	f.cfg.View.Heard(f.cfg.Now())
	f.batches.Add(1)
	f.records.Add(uint64(len(b.Records)))
	if f.cfg.Disk != nil {
		b.Serial = f.cfg.View.Load().Serial
		f.cfg.Disk.Keep(f.store, previous, b)
	}
}
