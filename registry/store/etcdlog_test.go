package store

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/zap"
)

func TestEtcdLogBecomesOurs(t *testing.T) {
	var b bytes.Buffer
	l := etcdLogger(slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug})))
	l.Info("not worth a line")
	l.Warn("simple token is not cryptographically signed")
	l.With(zap.String("member", "a1")).Warn("slow disk", zap.Int("took-ms", 900), zap.Error(errors.New("io")))
	l.Error("worse", zap.String("request", strings.Repeat("secret ", 1000)))
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines:\n%s", len(lines), b.String())
	}
	for _, want := range []string{"level=WARN", "etcd: slow disk", "component=etcd", "member=a1", "took-ms=900", "error=io"} {
		if !strings.Contains(lines[0], want) {
			t.Errorf("no %s in %s", want, lines[0])
		}
	}
	if !strings.Contains(lines[1], "level=ERROR") || len(lines[1]) > 400 {
		t.Error(lines[1])
	}
}
