package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/resolverd/resolverd/cmd/resolverd/settings"
	"github.com/resolverd/resolverd/cmd/resolverd/supervisor"
)

// processVariable tells a child of `resolverd run` that its settings come on stdin:
// what was checked at the start holds until the stop, whatever becomes of the files.
const processVariable = "RESOLVERD_PROCESS"

// maxInput bounds the settings on stdin.
const maxInput = 1 << 20

// loadSettings returns what the flags, the environment and the file say; in a child of
// the supervisor, what that says.
func loadSettings(cmd *cobra.Command) (settings.Loaded, error) {
	if os.Getenv(processVariable) != "" {
		os.Unsetenv(processVariable)
		var l settings.Loaded
		b, err := io.ReadAll(io.LimitReader(os.Stdin, maxInput))
		if err == nil {
			err = json.Unmarshal(b, &l)
		}
		if err != nil {
			return l, fail(exitUsage, "", "settings from the supervisor: %w", err)
		}
		return l, nil
	}
	file, err := cmd.Flags().GetString("config")
	if err != nil {
		return settings.Loaded{}, err
	}
	if file == "" {
		file = os.Getenv("RESOLVERD_CONFIG")
	}
	l, err := settings.Load(settings.Source{File: file, Environ: os.Environ(), Flags: cmd.Flags()})
	if err != nil {
		return l, settingsError(err)
	}
	return l, nil
}

// handOver is the other end of loadSettings.
func handOver(l settings.Loaded) ([]byte, error) {
	b, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("settings for a child: %w", err)
	}
	if len(b) > maxInput {
		return nil, errors.New("settings for a child: more than 1 MiB")
	}
	return b, nil
}

// newLogger logs to stderr in the way of the settings.
func newLogger(l settings.Loaded, process string) *slog.Logger {
	opts := &slog.HandlerOptions{Level: l.Log.Level}
	var h slog.Handler = slog.NewTextHandler(os.Stderr, opts)
	if l.Log.Format == "json" {
		h = slog.NewJSONHandler(os.Stderr, opts)
	}
	log := slog.New(h).With("process", process)
	// What is handed no logger uses the default one. That takes the log package's output
	// too: see takeStandardLog.
	slog.SetDefault(log)
	return log
}

// lineLogger makes log lines of the lines that CoreDNS and other libraries write with
// the log package. In the text format they stay as they are: people know them.
type lineLogger struct{ log *slog.Logger }

func (w lineLogger) Write(b []byte) (int, error) {
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		level := slog.LevelInfo
		for tag, l := range map[string]slog.Level{
			"[DEBUG] ": slog.LevelDebug, "[INFO] ": slog.LevelInfo, "[WARNING] ": slog.LevelWarn,
			"[ERROR] ": slog.LevelError, "[PANIC] ": slog.LevelError, "[FATAL] ": slog.LevelError,
		} {
			if rest, ok := strings.CutPrefix(line, tag); ok {
				line, level = rest, l
				break
			}
		}
		if line != "" {
			w.log.Log(context.Background(), level, line)
		}
	}
	return len(b), nil
}

// ready tells whoever started this process that it does its work.
func ready(log *slog.Logger) {
	if supervisor.Ready() {
		return
	}
	notify(log, daemon.SdNotifyReady)
}

// notify tells systemd, where that is listening.
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd does not listen", "error", err)
	}
}
