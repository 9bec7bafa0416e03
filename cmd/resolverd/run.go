package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/resolverd/resolverd/cmd/resolverd/settings"
	"github.com/resolverd/resolverd/cmd/resolverd/supervisor"
)

const runLong = `Runs resolverd: a supervisor that starts the answerer (DNS) and the agent (registry,
checks, HTTP API) and keeps both running. It stays in the foreground and logs to
stderr. SIGHUP reloads the Corefile; SIGTERM or Ctrl-C stops, a second one at once.

Settings come from resolverd.yaml, then RESOLVERD_* in the environment, then flags.`

func newRun() *cobra.Command {
	var demo bool
	c := &cobra.Command{
		Use:   "run",
		Short: "run resolverd: answerer and agent, supervised",
		Long:  runLong,
		Example: `  resolverd run
  resolverd run --corefile ./Corefile --data-dir /srv/resolverd --name web1
  resolverd run --api 10.0.0.7:8553 --api-token-file /etc/resolverd/token`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := loadSettings(cmd)
			if err != nil {
				return err
			}
			var plan func(*settings.Loaded) (*demoPlan, error)
			if demo {
				plan = func(l *settings.Loaded) (*demoPlan, error) { return planDemo(cmd, l) }
			}
			return supervise(l, plan)
		},
	}
	settings.AddFlags(c.Flags())
	c.Flags().BoolVar(&demo, "demo", false, "on free ports of loopback, with a demo service; see make run")
	return c
}

// supervise runs answerer and agent until a signal says stop. plan, where not nil, is
// asked for the demo once the data directory is ours.
func supervise(l settings.Loaded, plan func(*settings.Loaded) (*demoPlan, error)) error {
	log := newLogger(l, "supervisor")
	for _, w := range l.Warnings {
		log.Warn(w)
	}
	if err := makeDirs(l.Settings); err != nil {
		return err
	}
	lock, err := lockDir(l.DataDir, "resolverd run")
	if err != nil {
		return err
	}
	defer lock.Close()

	var demo *demoPlan
	if plan != nil {
		if demo, err = plan(&l); err != nil {
			return err
		}
	}
	children, err := childrenOf(l, demo)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	kill, hangup := make(chan struct{}, 1), make(chan struct{}, 1)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	go func() {
		for s := range signals {
			switch {
			case s == syscall.SIGHUP:
				offer(hangup)
			case ctx.Err() != nil:
				offer(kill)
			default:
				log.Info("stopping", "signal", s.String())
				notify(log, daemon.SdNotifyStopping)
				cancel()
			}
		}
	}()
	defer close(signals)
	defer signal.Stop(signals)

	readiness := newReadiness(log)
	defer readiness.stop()
	err = supervisor.Run(ctx, supervisor.Config{
		Children: children, Log: log, Ready: readiness.child, Hangup: hangup, Kill: kill,
	})
	var h *supervisor.Hopeless
	switch {
	case errors.As(err, &h):
		return err
	case err != nil:
		return fmt.Errorf("run: %w", err)
	}
	log.Info("stopped")
	return nil
}

func offer(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// childrenOf lists the processes in the order in which they stop: who asks first, who
// answers next, who holds the data last.
func childrenOf(l settings.Loaded, demo *demoPlan) ([]supervisor.Child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("run: %w", err)
	}
	// A token for the command line, if there is one, is none of the children's business.
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, tokenVariable+"=") })
	env = append(env, processVariable+"=child")
	hopeless := func(code int) bool { return code == exitUsage || code == exitInUse || code == exitDenied }

	input, err := handOver(l)
	if err != nil {
		return nil, err
	}
	agent := supervisor.Child{
		Name: "agent", Path: self, Title: "resolverd", Args: []string{"agent"}, Env: env, Input: input,
		StopAfter: 15 * time.Second, Hopeless: hopeless, After: "answerer", AfterAtMost: time.Second,
	}
	// The answerer talks to strangers: it gets no token.
	public := l
	public.API.Token, public.API.TokenFile = "", ""
	if input, err = handOver(public); err != nil {
		return nil, err
	}
	answerer := supervisor.Child{
		Name: "answerer", Path: self, Title: "resolverd", Args: []string{"answer"}, Env: env, Input: input,
		StopAfter: 20 * time.Second, SlowestRestart: 2 * time.Second, Hopeless: hopeless,
	}
	id, other, err := answererIdentity(l.Settings)
	if err != nil {
		return nil, err
	}
	if demo != nil {
		answerer.Env = append(answerer.Env[:len(answerer.Env):len(answerer.Env)], demo.env...)
	}
	if other {
		answerer.Credential = &syscall.Credential{Uid: uint32(id.uid), Gid: uint32(id.gid)}
		answerer.Caps = []uintptr{capNetBindService}
	}
	children := []supervisor.Child{answerer, agent}
	if demo != nil {
		children = append([]supervisor.Child{demo.child(self)}, children...)
	}
	return children, nil
}

// capNetBindService is CAP_NET_BIND_SERVICE of capabilities(7): ports below 1024.
const capNetBindService = 10

// patience is how long systemd is kept waiting for the agent once queries are answered.
const patience = 10 * time.Second

// readiness tells systemd when both children do their work, or when the answerer does
// and the agent takes long: a registry in trouble must not hold up the boot.
type readiness struct {
	log   *slog.Logger
	mu    sync.Mutex // guards the rest
	ready map[string]bool
	told  bool
	timer *time.Timer
}

func newReadiness(log *slog.Logger) *readiness {
	return &readiness{log: log, ready: map[string]bool{}}
}

func (r *readiness) child(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := !r.ready[name]
	r.ready[name] = true
	if !first {
		r.log.Info("working again", "child", name)
	}
	switch {
	case r.told || !r.ready["answerer"]:
	case r.ready["agent"]:
		r.tell("ready: answering, and the registry takes writes")
	case r.timer == nil:
		r.timer = time.AfterFunc(patience, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.tell("answering, but the agent is not ready")
		})
	}
}

func (r *readiness) tell(status string) {
	if r.told {
		return
	}
	r.told = true
	r.log.Info(status)
	notify(r.log, daemon.SdNotifyReady+"\nSTATUS="+status)
}

func (r *readiness) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = true
	if r.timer != nil {
		r.timer.Stop()
	}
}
