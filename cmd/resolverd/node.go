package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/resolverd/resolverd/registry"
)

func newNode() *cobra.Command { return group("node", "look at nodes", newNodeList()) }

func newNodeList() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "list",
		Short:   "all nodes",
		Example: "  resolverd node list --json",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := newAPIClient(cmd)
			if err != nil {
				return err
			}
			list, err := c.Nodes(cmd.Context())
			if err != nil {
				return apiError(err)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), list)
			}
			var rows [][]string
			for _, n := range list {
				alive := "no"
				switch {
				case n.Alive && n.Agent:
					alive = "yes"
				case n.Alive:
					alive = "no agent"
				}
				rows = append(rows, []string{n.Name, n.Address.String(), alive, strconv.Itoa(n.Instances), n.Zone})
			}
			return printTable(cmd.OutOrStdout(), []string{"NODE", "ADDRESS", "ALIVE", "INSTANCES", "ZONE"}, rows)
		},
	}
	addAPI(c)
	addJSON(c, &asJSON)
	return c
}

func newHistory() *cobra.Command {
	var asJSON bool
	var since string
	var limit int
	c := &cobra.Command{
		Use:   "history [NAME]",
		Short: "who changed what and when, the newest first",
		Long: `Lists changes of instances, checks and nodes, the newest first: of one service, node
or instance where NAME is given, else of all.`,
		Example: "  resolverd history web --since 1h\n  resolverd history --limit 20 --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := registry.HistoryQuery{Limit: limit}
			if len(args) == 1 {
				q.Name = args[0]
			}
			var err error
			if q.Since, err = parseSince(since, time.Now()); err != nil {
				return usage(cmd, "--since: %v", err)
			}
			if limit < 1 || limit > registry.MaxHistoryLimit {
				return usage(cmd, "--limit: %d is out of bounds, 1 to %d", limit, registry.MaxHistoryLimit)
			}
			c, err := newAPIClient(cmd)
			if err != nil {
				return err
			}
			events, err := c.History(cmd.Context(), q)
			if err != nil {
				return apiError(err)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), events)
			}
			if len(events) == 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "no changes are known")
				return nil
			}
			var rows [][]string
			for _, e := range events {
				rows = append(rows, []string{
					e.Time.Local().Format(time.DateTime), strconv.FormatUint(e.Revision, 10),
					e.Subject + " " + e.Action, subjectOf(e), fromTo(e), by(e), firstLine(e.Reason),
				})
			}
			return printTable(cmd.OutOrStdout(), []string{"TIME", "REVISION", "WHAT", "OF", "CHANGE", "BY", "REASON"}, rows)
		},
	}
	c.Flags().StringVar(&since, "since", "", "no older than this: 1h, or 2026-01-02T15:04:05Z")
	c.Flags().IntVar(&limit, "limit", 100, "at most so many, 1 to 10000")
	addAPI(c)
	addJSON(c, &asJSON)
	return c
}

// parseSince reads a time, or how long ago.
func parseSince(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("%q is neither a time such as 2026-01-02T15:04:05Z nor how long ago, as 1h", s)
	}
	return t, nil
}

func subjectOf(e registry.Event) string {
	var parts []string
	for _, p := range []string{e.Service, e.ID, e.Node} {
		if p != "" && (len(parts) == 0 || parts[len(parts)-1] != p) {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, " ")
}

func fromTo(e registry.Event) string {
	switch {
	case e.From == "":
		return e.To
	case e.To == "":
		return "was " + e.From
	}
	return fmt.Sprintf("%s -> %s", e.From, e.To)
}

func by(e registry.Event) string {
	if e.Source == "" {
		return e.Actor
	}
	return e.Actor + " " + e.Source
}
