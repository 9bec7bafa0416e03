package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/catalog"
)

// problem is an error with its HTTP status; its text is the reply.
type problem struct {
	code int
	text string
}

func (p *problem) Error() string { return p.text }

func fail(code int, format string, args ...any) error {
	return &problem{code: code, text: fmt.Sprintf(format, args...)}
}

// clip bounds what of a request comes back in an error.
func clip(s string) string {
	if len(s) > 128 {
		return s[:128] + "..."
	}
	return s
}

// refuse answers with the error, in plain text as Consul does.
func (s *server) refuse(c *call, err error) {
	code, text := http.StatusInternalServerError, err.Error()
	var p *problem
	var bad *catalog.Invalid
	switch {
	case errors.As(err, &p):
		code, text = p.code, p.text
	case errors.As(err, &bad):
		code, text = http.StatusBadRequest, bad.Error()
	case errors.Is(err, catalog.ErrNotFound):
		code = http.StatusNotFound
	case errors.Is(err, catalog.ErrTombstoned), errors.Is(err, catalog.ErrOwned), errors.Is(err, catalog.ErrAlive):
		code = http.StatusConflict
	case errors.Is(err, registry.ErrConflict), errors.Is(err, context.DeadlineExceeded) && c.Context().Err() == nil:
		code, text = http.StatusServiceUnavailable, "the registry did not take the write in time: "+err.Error()
	case c.Context().Err() != nil:
		code, text = http.StatusServiceUnavailable, "the request was given up"
	default:
		s.Log.Warn("request failed", "method", c.Method, "path", clip(c.URL.Path), "err", err)
	}
	c.text(code, text)
}

func (c *call) text(code int, text string) {
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	c.send(code, []byte(text+"\n"))
}

// json answers with v, indented where `pretty` is given.
func (c *call) json(code int, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if c.flag("pretty") {
		e.SetIndent("", "    ")
	}
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("api: encode reply: %w", err)
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.send(code, b.Bytes())
	return nil
}

func (c *call) send(code int, body []byte) {
	c.code = code
	// Where the writer knows no deadlines, in tests, there is none.
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(writeReply))
	c.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	c.w.WriteHeader(code)
	if c.Method != http.MethodHead {
		_, _ = c.w.Write(body) // the client is gone: nobody is left to be told
	}
}

// done answers a write: 200, and whether it changed anything.
func (c *call) done(r catalog.Result, err error, body string) error {
	if err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("X-Resolverd-Changed", strconv.FormatBool(r.Changed))
	h.Set("X-Resolverd-Revision", strconv.FormatUint(r.Revision, 10))
	if r.Tombstone != "" {
		h.Set("X-Resolverd-Tombstone", string(r.Tombstone))
	}
	if body != "" {
		h.Set("Content-Type", "application/json")
	}
	c.send(http.StatusOK, []byte(body))
	return nil
}
