package store

import (
	"context"
	"log/slog"
	"os"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// ExitStore is the status with which the process ends when etcd can no longer write:
// etcd calls Fatal then, and cannot go on.
const ExitStore = 74 // EX_IOERR of sysexits

// maxField bounds a value in the log, in octets.
const maxField = 200

// ignored are warnings that are no news here: there is no listener, by intent.
var ignored = []string{
	"Running http and grpc server on single port. This is not recommended for production.",
	// Nobody logs in: there is no way in.
	"simple token is not cryptographically signed",
}

// etcdLogger makes a zap logger that writes warnings and worse to log. Its Fatal and its Panic log
// what happened in one line and end the process: no goroutine of etcd goes on after either.
func etcdLogger(log *slog.Logger) *zap.Logger {
	return zap.New(&slogCore{log: log.With("component", "etcd")}, zap.WithFatalHook(exit{log}), zap.WithPanicHook(exit{log}))
}

// exit is what follows a Fatal or Panic of etcd's.
type exit struct{ log *slog.Logger }

func (x exit) OnWrite(e *zapcore.CheckedEntry, fields []zapcore.Field) {
	x.log.Error("store: etcd gave up, the agent ends; answers go on", append(attributes(fields), "reason", e.Message)...)
	os.Exit(ExitStore)
}

// slogCore is a zapcore.Core that writes to a slog.Logger. (zapslog goes the other way.)
type slogCore struct {
	log *slog.Logger
}

func (c *slogCore) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

func (c *slogCore) With(fields []zapcore.Field) zapcore.Core {
	return &slogCore{log: c.log.With(attributes(fields)...)}
}

func (c *slogCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) && !slices.Contains(ignored, e.Message) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c *slogCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	level := slog.LevelWarn
	if e.Level >= zapcore.ErrorLevel {
		level = slog.LevelError
	}
	c.log.Log(context.Background(), level, "etcd: "+e.Message, attributes(fields)...)
	return nil
}

func (c *slogCore) Sync() error { return nil }

func attributes(fields []zapcore.Field) []any {
	m := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(m)
	}
	out := make([]any, 0, 2*len(fields))
	for _, f := range fields {
		if v, ok := m.Fields[f.Key]; ok {
			if text, is := v.(string); is {
				v = truncate(text, maxField) // a whole request, at times
			}
			out = append(out, f.Key, v)
			delete(m.Fields, f.Key)
		}
	}
	return out
}
