package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

const (
	maxBody  = 64 << 10         // octets of one request
	maxConns = 16               // connections at a time; more wait in the listen queue
	maxTime  = 90 * time.Second // a verb's run; a reload waits for queries in flight
	maxPath  = 107              // octets of a socket's path, unix(7)
)

// Func answers a verb. params is the request's JSON, never empty (at least "null").
// What it returns is encoded as JSON; an error's Hint() string goes with its text.
type Func func(ctx context.Context, params json.RawMessage) (any, error)

// Server listens on a control socket.
type Server struct {
	path  string
	verbs map[string]Func
	http  *http.Server
	ln    net.Listener
	done  chan struct{}
	log   *slog.Logger
}

// Listen makes the socket at path, in a directory that only we (and, by mode, our
// group) may enter, with mode (0600 or 0660), and serves verbs on it until Close. A
// socket that a dead process left is replaced; one that answers is not. log may be nil.
func Listen(path string, mode fs.FileMode, verbs map[string]Func, log *slog.Logger) (*Server, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if len(path) > maxPath {
		return nil, fmt.Errorf("control: the path of the socket has %d octets, %d are possible: choose a shorter --data-dir: %s", len(path), maxPath, path)
	}
	if err := clear(path); err != nil {
		return nil, err
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control: listen: %w", err)
	}
	if err := os.Chmod(path, mode&0o660); err != nil {
		ln.Close()
		return nil, fmt.Errorf("control: %w", err)
	}
	s := &Server{path: path, verbs: verbs, ln: ln, done: make(chan struct{}), log: log}
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      maxTime + 10*time.Second,
		IdleTimeout:       10 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ConnContext:       withPeer,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	go func() {
		defer close(s.done)
		if err := s.http.Serve(&listener{Listener: ln, free: make(chan struct{}, maxConns)}); !errors.Is(err, http.ErrServerClosed) {
			log.Error("control socket", "error", err)
		}
	}()
	return s, nil
}

// clear removes a socket that nobody answers on.
func clear(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	if fi.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("control: %s is in the way and is no socket", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return fmt.Errorf("control: %s is in use by another resolverd", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	return nil
}

// Path returns the socket's path.
func (s *Server) Path() string { return s.path }

// Close ends the server: verbs that run are waited for until ctx ends, then cut.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	<-s.done
	return err
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	uid, ok := peer(r.Context())
	if !ok || uid != 0 && uid != uint32(os.Getuid()) {
		s.log.Warn("control: refused another user", "uid", uid)
		refuse(w, http.StatusForbidden, &Error{
			Text: fmt.Sprintf("uid %d may not control this resolverd", uid),
			Tip:  "run the command as root or as the user that resolverd runs as",
		})
		return
	}
	verb, found := strings.CutPrefix(r.URL.Path, "/v1/")
	f := s.verbs[verb]
	switch {
	case !found || f == nil:
		refuse(w, http.StatusNotFound, &Error{
			Text: fmt.Sprintf("the running resolverd does not know %q", verb),
			Tip:  "is it older than this command? restart it",
		})
		return
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		refuse(w, http.StatusMethodNotAllowed, &Error{Text: "POST only"})
		return
	}
	params, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, &Error{Text: fmt.Sprintf("the request is cut, slow or over %d octets", maxBody)})
		return
	}
	if len(params) == 0 {
		params = []byte("null")
	}
	if !json.Valid(params) {
		refuse(w, http.StatusBadRequest, &Error{Text: "the request is not JSON"})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), maxTime)
	defer cancel()
	result, err := f(ctx, params)
	if err != nil {
		e := &Error{Text: err.Error()}
		var h hinted
		if errors.As(err, &h) {
			e.Tip = h.Hint()
		}
		refuse(w, http.StatusUnprocessableEntity, e)
		return
	}
	write(w, http.StatusOK, result)
}

func refuse(w http.ResponseWriter, status int, e *Error) { write(w, status, e) }

func write(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"error":"the result has no JSON form"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The peer may be gone: there is nobody to tell.
	_, _ = w.Write(append(b, '\n'))
}

type peerKey struct{}

// withPeer notes the uid of the process at the other end, as it was when it connected.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	if u, ok := c.(*conn); ok && u.known {
		return context.WithValue(ctx, peerKey{}, u.uid)
	}
	return ctx
}

func peer(ctx context.Context) (uint32, bool) {
	uid, ok := ctx.Value(peerKey{}).(uint32)
	return uid, ok
}
