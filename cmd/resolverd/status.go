package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/resolverd/resolverd/internal/control"
)

func newStatus() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "what the answerer serves, and how fast it may",
		Long: `Shows the Corefile that is served, how old the registry's view is, and for each listener
and server block whether the fast path is on, and whether queries go to the upstreams from
there, or why not.`,
		Example: "  resolverd status --json",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := controlClient(cmd)
			if err != nil {
				return err
			}
			var s answererStatus
			if err := client.Call(cmd.Context(), control.VerbStatus, nil, &s); err != nil {
				return controlError(err)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), s)
			}
			return s.print(cmd.OutOrStdout(), time.Now())
		},
	}
	addDataDir(c)
	addJSON(c, &asJSON)
	return c
}

func (s answererStatus) print(w io.Writer, now time.Time) error {
	fmt.Fprintf(w, "version   %s\ncorefile  %s\nanswering for %s\n", s.Version, s.Corefile, now.Sub(s.Since).Round(time.Second))
	switch {
	case !s.Loaded:
		fmt.Fprintln(w, "registry  not loaded")
	case s.Age < 0:
		fmt.Fprintf(w, "registry  revision %d, from disk: the agent was not heard yet\n", s.Revision)
	default:
		fmt.Fprintf(w, "registry  revision %d, heard %.1f s ago\n", s.Revision, s.Age)
	}
	fmt.Fprintln(w)
	var rows [][]string
	for _, l := range s.FastPath.Listeners {
		for _, b := range l.Blocks {
			rows = append(rows, []string{
				l.Listener, strings.Join(b.Zones, " "), onOrWhy(b.On, b.Reason, l.Reason), onOrWhy(b.Relayed, b.RelayReason),
				fmt.Sprint(l.Hits), fmt.Sprint(l.Relayed), fmt.Sprint(l.Misses), fmt.Sprint(l.Dropped),
			})
		}
	}
	return printTable(w, []string{"LISTENER", "ZONES", "FAST PATH", "TO UPSTREAMS", "HITS", "RELAYED", "MISSES", "DROPPED"}, rows)
}

// onOrWhy says that something is on, or the first reason why it is not.
func onOrWhy(on bool, reasons ...string) string {
	if on {
		return "on"
	}
	for _, r := range reasons {
		if r != "" {
			return "off: " + r
		}
	}
	return "off"
}
