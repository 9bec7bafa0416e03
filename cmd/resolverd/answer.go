package main

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/resolverd/resolverd/cache/snapshot"
	"github.com/resolverd/resolverd/cmd/resolverd/settings"
	"github.com/resolverd/resolverd/corefile"
	"github.com/resolverd/resolverd/internal/control"
	"github.com/resolverd/resolverd/internal/headroom"
	"github.com/resolverd/resolverd/internal/listenlock"
	"github.com/resolverd/resolverd/internal/resident"
	"github.com/resolverd/resolverd/plugin/cache"
	"github.com/resolverd/resolverd/registry"
)

func newAnswer() *cobra.Command {
	c := &cobra.Command{
		Use:   "answer",
		Short: "run the answerer alone: DNS and the control socket",
		Long: `Runs the process that answers queries. It reads the registry from the agent of the
same data directory, and from disk while that is away. resolverd run starts both.`,
		Example: "  resolverd answer --corefile /etc/resolverd/Corefile",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := loadSettings(cmd)
			if err != nil {
				return err
			}
			return answer(l)
		},
	}
	settings.AddFlags(c.Flags())
	return c
}

// stopWait bounds a graceful stop of the answerer, lameduck included; the supervisor
// waits a little longer.
const stopWait = 18 * time.Second

// answer runs until SIGTERM: view from disk, relay, control socket, Corefile.
func answer(l settings.Loaded) (err error) {
	log := newLogger(l, "answerer")
	takeStandardLog(l, log)
	if err := makeAnswererDir(l.Settings); err != nil {
		return err
	}
	lock, err := lockDir(l.AnswererDir(), "resolverd answer")
	if err != nil {
		return err
	}
	defer lock.Close()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)

	view := registry.NewView()
	feed := startFeed(l.Settings, view, log)
	defer feed.stop()
	resident.Provide("registry.view", view)
	if dir, err := makeCacheDir(l.Settings); err == nil {
		resident.Provide(cache.ProvidedDir, dir)
	} else {
		log.Warn("the cache is not kept over a restart", "error", err)
	}

	var background sync.WaitGroup
	defer background.Wait()
	life, end := context.WithCancel(context.Background())
	defer end()
	background.Go(func() { headroom.Keep(life) })

	// Blocks without a port take it from here, and so does the embedded Corefile.
	corefile.SetDefaultPort(l.DNSPort)
	locks, err := listenlock.Dir()
	if err != nil {
		return err
	}
	runner, err := corefile.Start(corefile.Config{
		Source:  corefileSource(l.Settings),
		LockDir: locks,
		Command: "resolverd answer",
		Log:     log,
	})
	if err != nil {
		return corefileError(err)
	}
	started := time.Now()
	socket, err := control.Listen(l.ControlSocket(), 0o600, verbs(runner, view, started, log), log)
	if err != nil {
		return errors.Join(err, runner.Stop(context.Background()))
	}
	log.Info("answering", "corefile", runner.Loaded().Path, "listeners", fmt.Sprint(runner.Listeners()), "registry_revision", view.Load().Revision)
	ready(log)

	for s := range signals {
		if s != syscall.SIGHUP {
			break
		}
		// A reload waits for queries in flight; a stop must not wait for that.
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			_ = reload(ctx, runner, log) // it has logged what is wrong
		}()
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopWait)
	defer cancel()
	err = runner.Stop(ctx)
	return errors.Join(err, socket.Close(ctx))
}

func reload(ctx context.Context, r *corefile.Runner, log *slog.Logger) error {
	err := r.Reload(ctx)
	if err != nil {
		log.Error("reload refused, the old Corefile serves on", "error", err)
		return err
	}
	log.Info("reloaded", "corefile", r.Loaded().Path, "listeners", fmt.Sprint(r.Listeners()))
	return nil
}

// takeStandardLog sends what CoreDNS logs where our log goes: as it is in the text
// format, as records in JSON.
func takeStandardLog(l settings.Loaded, log *slog.Logger) {
	if l.Log.Format == "json" {
		stdlog.SetFlags(0)
		stdlog.SetOutput(lineLogger{log})
		return
	}
	stdlog.SetFlags(stdlog.LstdFlags)
	stdlog.SetOutput(os.Stderr)
}

// corefileSource says which Corefile is served, and on which port the embedded one.
func corefileSource(s settings.Settings) corefile.Source {
	port := strconv.Itoa(int(s.DNSPort))
	// Its own variable counts where no setting says otherwise. Kubernetes sets it to
	// tcp://... for a Service that is named resolverd.
	if v := os.Getenv(portVariable); s.DNSPort == settings.Default().DNSPort {
		if n, err := strconv.ParseUint(v, 10, 16); err == nil && n > 0 {
			port = v
		}
	}
	return corefile.Source{File: s.Corefile, Vars: map[string]string{portVariable: port}}
}

// portVariable is the port of the embedded Corefile.
const portVariable = "RESOLVERD_PORT"

// corefileError gives an error of package corefile its exit code and hints.
func corefileError(err error) error {
	var fs corefile.Faults
	if !errors.As(err, &fs) {
		var f *corefile.Fault
		if !errors.As(err, &f) {
			return lockError(err)
		}
		fs = corefile.Faults{f}
	}
	l := make(faultList, len(fs))
	for i, f := range fs {
		l[i] = fault{text: f.Error(), hint: f.Hint}
		switch {
		case errors.Is(f, syscall.EADDRINUSE):
			l[i].code = exitInUse
		case errors.Is(f, syscall.EACCES):
			l[i].code = exitDenied
		}
	}
	return l
}

// makeCacheDir makes the directory that caches are kept in, and removes what nobody needs.
func makeCacheDir(s settings.Settings) (string, error) {
	dir := filepath.Join(s.AnswererDir(), "cache")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return dir, snapshot.Sweep(dir, time.Now())
}
