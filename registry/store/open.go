package store

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/resolverd/resolverd/registry"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"golang.org/x/sys/unix"
)

// Errors of Open.
var (
	// ErrHeld is returned where another process has the data directory open.
	ErrHeld = errors.New("store: the data directory is in use by another process")
	// ErrNewer is returned where a later version wrote the data directory.
	ErrNewer = errors.New("store: the data directory was written by a newer version")
	// ErrDamaged is returned where etcd cannot make sense of its files: put a copy of the
	// directory back, or remove it and begin with an empty registry.
	ErrDamaged = errors.New("store: the data is damaged")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("store: closed")
)

// Config says where the store is and how large it may grow. Only Dir is required.
type Config struct {
	// Dir is the store's own directory; it is made with mode 0700 if it is not there,
	// and refused if others may enter it.
	Dir string
	// Log takes etcd's warnings and the store's own; default slog.Default().
	Log *slog.Logger
	// HistoryMax is the most events kept, default 100,000; HistoryAge how long they are
	// kept, default 30 days.
	HistoryMax int
	HistoryAge time.Duration
	// Quota bounds etcd's database file in bytes, default 2 GiB. Where it is reached
	// writes fail with ErrFull until upkeep has made room.
	Quota int64
	// Upkeep is how often the background work is done, default one minute.
	Upkeep time.Duration
	// Now is the clock of events without a time; default time.Now.
	Now func() time.Time
}

func (c *Config) defaults() {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.HistoryMax <= 0 {
		c.HistoryMax = 100_000
	}
	if c.HistoryAge <= 0 {
		c.HistoryAge = 30 * 24 * time.Hour
	}
	if c.Quota <= 0 {
		c.Quota = 2 << 30
	}
	if c.Upkeep <= 0 {
		c.Upkeep = time.Minute
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

// Bounds of etcd's requests. A change of more is refused.
const (
	maxTxnOps       = 4096
	maxRequestBytes = 8 << 20
	maxChangeBytes  = 4 << 20
)

// idKey holds the identity that the store was given when it was made. It stands beside
// registry.Prefix.
var idKey = strings.TrimSuffix(registry.Prefix, "registry/") + "store"

// Store is an open store. All methods may be called by any number of goroutines.
type Store struct {
	cfg    Config
	log    *slog.Logger
	lock   *os.File
	etcd   *embed.Etcd
	client *clientv3.Client
	id     uint64
	events atomic.Uint64 // numbers the events of this opening
	salt   uint32        // makes their keys unique among openings

	queue  chan *request
	nudge  chan struct{}
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	once   sync.Once

	mu      sync.Mutex // guards follows
	follows map[*atomic.Int64]struct{}

	// The revision of the last compaction and the bytes in use after it; unix seconds of
	// the last defragmentation.
	trimmed, used, defragged atomic.Int64
}

// Open starts etcd on the directory, makes a new store where there is none, and waits
// until it can be written. The store must be closed.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	cfg.defaults()
	lock, err := takeDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Store{
		cfg: cfg, log: cfg.Log, lock: lock,
		queue: make(chan *request, queueLength), nudge: make(chan struct{}, 1),
		follows: map[*atomic.Int64]struct{}{},
	}
	if err := s.start(ctx); err != nil {
		lock.Close()
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wg.Go(s.commit)
	s.wg.Go(s.upkeep)
	return s, nil
}

func (s *Store) start(ctx context.Context) error {
	var salt [4]byte
	rand.Read(salt[:])
	s.salt = binary.BigEndian.Uint32(salt[:])
	unborn, err := s.beginNew()
	if err != nil {
		return err
	}
	e, err := startEtcd(etcdConfig(s.cfg))
	if err != nil {
		return fmt.Errorf("store: start etcd in %s: %w", s.cfg.Dir, err)
	}
	s.etcd = e
	select {
	case <-e.Server.ReadyNotify():
	case <-e.Server.StopNotify():
		err = errors.New("etcd stopped while starting")
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil {
		s.client = v3client.New(e.Server)
		err = s.identify(ctx)
	}
	if err == nil {
		if err = os.Remove(unborn); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		if s.client != nil {
			s.client.Close()
		}
		e.Close()
		return fmt.Errorf("store: open %s: %w", s.cfg.Dir, err)
	}
	return nil
}

// beginNew makes a beginning possible once more. etcd makes its database before its
// write-ahead log; one that ended in between, because the disk was full or it was killed,
// leaves what looks like a damaged store. So a file stands beside a store until it was
// opened once: while it does, and there is no log, nothing was ever acknowledged, and what
// etcd left is removed. It returns the file's path.
func (s *Store) beginNew() (string, error) {
	mark, member := filepath.Join(s.cfg.Dir, "new"), filepath.Join(s.cfg.Dir, "etcd", "member")
	if _, err := os.Lstat(member); errors.Is(err, fs.ErrNotExist) {
		return mark, writeFile(mark, nil)
	}
	_, err := os.Lstat(mark)
	if errors.Is(err, fs.ErrNotExist) {
		return mark, nil
	}
	var logs []string
	if err == nil {
		logs, err = filepath.Glob(filepath.Join(member, "wal", "*.wal"))
	}
	if err == nil && len(logs) == 0 {
		err = os.RemoveAll(member)
	}
	if err != nil {
		return mark, fmt.Errorf("store: begin anew: %w", err)
	}
	return mark, nil
}

// startEtcd starts etcd. It refuses data without a write-ahead log, of which etcd would
// make an empty store, and what etcd panics on when it finds its files damaged.
func startEtcd(cfg *embed.Config) (e *embed.Etcd, err error) {
	member := filepath.Join(cfg.Dir, "member")
	logs, err := filepath.Glob(filepath.Join(member, "wal", "*.wal"))
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(member, "snap", "db")); err == nil && len(logs) == 0 {
		return nil, fmt.Errorf("%w: there is a database but no write-ahead log", ErrDamaged)
	}
	defer func() {
		if p := recover(); p != nil {
			e, err = nil, fmt.Errorf("%w: etcd panicked: %v", ErrDamaged, p)
		}
	}()
	return embed.StartEtcd(cfg)
}

// etcdConfig makes a single member without any listener. The peer URL is only a name in
// the member list: nothing listens there, and a later cluster replaces it.
func etcdConfig(c Config) *embed.Config {
	e := embed.NewConfig()
	e.Name = "resolverd"
	e.Dir = filepath.Join(c.Dir, "etcd")
	nowhere := url.URL{Scheme: "http", Host: "localhost:2380"}
	e.ListenPeerUrls, e.ListenClientUrls, e.ListenMetricsUrls, e.ListenClientHttpUrls = nil, nil, nil, nil
	e.AdvertisePeerUrls, e.AdvertiseClientUrls = []url.URL{nowhere}, []url.URL{}
	e.InitialCluster = e.Name + "=" + nowhere.String()
	e.EnableGRPCGateway = false
	e.TickMs, e.ElectionMs = 100, 1000
	e.MaxTxnOps, e.MaxRequestBytes = maxTxnOps, maxRequestBytes
	e.QuotaBackendBytes = c.Quota
	e.MaxSnapFiles, e.MaxWalFiles = 2, 2
	e.BackendFreelistType = "map"
	e.WarningApplyDuration, e.WarningUnaryRequestDuration = time.Second, 2*time.Second
	e.ZapLoggerBuilder = embed.NewZapLoggerBuilder(etcdLogger(c.Log))
	return e
}

// identify reads the store's identity, and gives it one where it is new.
func (s *Store) identify(ctx context.Context) error {
	var b [8]byte
	rand.Read(b[:])
	fresh := strconv.FormatUint(binary.BigEndian.Uint64(b[:])|1, 16)
	r, err := s.client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(idKey), "=", 0)).
		Then(clientv3.OpPut(idKey, fresh)).
		Else(clientv3.OpGet(idKey)).Commit()
	if err != nil {
		return err
	}
	if !r.Succeeded {
		fresh = string(r.Responses[0].GetResponseRange().Kvs[0].Value)
	}
	if s.id, err = strconv.ParseUint(fresh, 16, 64); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	return nil
}

// ID returns the store's identity: random, given when the store was made, never 0.
// Revisions of stores with different identities have nothing to do with each other.
func (s *Store) ID() uint64 { return s.id }

// Failed returns a channel that is closed when etcd has stopped on its own. A failed
// disk write ends the process instead, see etcdLogger.
func (s *Store) Failed() <-chan struct{} { return s.etcd.Server.StopNotify() }

// Close finishes the commits that are under way, refuses the rest with ErrClosed, and
// stops etcd.
func (s *Store) Close() error {
	var err error
	s.once.Do(func() {
		s.cancel()
		s.wg.Wait()
		err = s.client.Close()
		s.etcd.Close()
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		err = errors.Join(err, s.lock.Close())
	})
	return err
}

// format is what the file "format" in the data directory holds.
type format struct {
	Format int    `json:"format"`
	Store  string `json:"store"`
}

// takeDir makes the directory if need be, locks it and checks its format.
func takeDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	st, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("store: %s has mode %#o; others must not enter it: chmod 0700 %s", dir, st.Mode().Perm(), dir)
	}
	name := filepath.Join(dir, "lock")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s%s", ErrHeld, dir, holder(f))
		}
		return nil, fmt.Errorf("store: lock %s: %w", name, err)
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err == nil {
		err = checkFormat(filepath.Join(dir, "format"))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func holder(f *os.File) string {
	var b [32]byte
	n, _ := f.ReadAt(b[:], 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (pid %d)", pid)
}

func checkFormat(name string) error {
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		b, _ := json.Marshal(format{Format: registry.FormatVersion, Store: "etcd"})
		return writeFile(name, append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	var f format
	if err := json.Unmarshal(b, &f); err != nil || f.Format < 1 {
		return fmt.Errorf("store: %s does not say which format the data has: %q", name, truncate(string(b), 80))
	}
	if f.Format > registry.FormatVersion {
		return fmt.Errorf("%w: %s says format %d, this one knows %d", ErrNewer, name, f.Format, registry.FormatVersion)
	}
	return nil
}

func truncate(s string, n int) string {
	if len(s) > n {
		return s[:n] + "..."
	}
	return s
}
