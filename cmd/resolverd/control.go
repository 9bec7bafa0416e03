package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/resolverd/resolverd/cmd/resolverd/settings"
	"github.com/resolverd/resolverd/internal/control"
)

// addDataDir gives a command that speaks to the control socket the flags that find it.
func addDataDir(c *cobra.Command) {
	c.Flags().String("data-dir", "", "data directory of the running resolverd")
	c.Flags().String("config", "", "resolverd.yaml to take data_dir from (default "+settings.DefaultFile+" if it is there)")
}

// clientSettings returns the settings as far as a client needs them: faults in what it
// does not need are not its business.
func clientSettings(cmd *cobra.Command) (settings.Loaded, error) {
	file, _ := cmd.Flags().GetString("config")
	if file == "" {
		file = os.Getenv("RESOLVERD_CONFIG")
	}
	// Only the flags that say where resolverd is: --address of `service register` is the
	// instance's, and no setting.
	flags := pflag.NewFlagSet(cmd.Name(), pflag.ContinueOnError)
	for _, name := range []string{"api", "api-token-file", "data-dir"} {
		if f := cmd.Flags().Lookup(name); f != nil {
			flags.AddFlag(f)
		}
	}
	l, err := settings.Load(settings.Source{File: file, Environ: os.Environ(), Flags: flags})
	var faults settings.Faults
	if !errors.As(err, &faults) {
		return l, settingsErrorOrNil(err)
	}
	var mine settings.Faults
	for _, f := range faults {
		switch {
		case f.Key == "api.address":
			// That an API off loopback has no token is the agent's business. After an
			// address that cannot be read, the default stands here.
			if flags.Lookup("api") != nil && (l.API.Address.Port() == 0 || l.API.Address.Addr().IsLoopback()) {
				mine = append(mine, f)
			}
		case flags.Lookup(trimDashes(f.Where)) != nil:
			mine = append(mine, f)
		}
	}
	if mine != nil {
		return l, settingsError(mine)
	}
	return l, nil
}

func settingsErrorOrNil(err error) error {
	if err == nil {
		return nil
	}
	return settingsError(err)
}

func trimDashes(s string) string {
	if len(s) > 2 && s[:2] == "--" {
		return s[2:]
	}
	return ""
}

func controlClient(cmd *cobra.Command) (*control.Client, error) {
	l, err := clientSettings(cmd)
	if err != nil {
		return nil, err
	}
	return control.NewClient(l.ControlSocket()), nil
}

// controlError gives an error of the control client its exit code and hint.
func controlError(err error) error {
	if err == nil {
		return nil
	}
	f := &failure{code: exitFailure, err: err, hint: hintOf(err)}
	switch {
	case errors.Is(err, control.ErrNotRunning), errors.Is(err, context.DeadlineExceeded):
		f.code = exitUnreachable
	case errors.Is(err, os.ErrPermission):
		f.code = exitDenied
	}
	return f
}

func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

func newReload() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "reload",
		Short: "load the Corefile again, and wait until it serves",
		Long: `Has the running resolverd load its Corefile again. It waits until the new one
answers. A Corefile with a fault is refused with file and line, exit code 2, and the
old one serves on.`,
		Example: "  resolverd reload",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := controlClient(cmd)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Minute)
			defer cancel()
			if err := client.Reload(ctx); err != nil {
				var refused *control.Error
				if errors.As(err, &refused) {
					return &failure{code: exitUsage, err: err, hint: hintOf(err)}
				}
				return controlError(err)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), map[string]bool{"reloaded": true})
			}
			fmt.Fprintln(cmd.OutOrStdout(), "reloaded")
			return nil
		},
	}
	addDataDir(c)
	addJSON(c, &asJSON)
	return c
}

func newCache() *cobra.Command {
	return group("cache", "look into the cache, and empty it", newCacheStats(), newCacheFlush())
}

func newCacheStats() *cobra.Command {
	var asJSON bool
	var zones int
	c := &cobra.Command{
		Use:   "stats",
		Short: "what the caches hold and did",
		Long: `Shows each cache, one a server block. With --zones it shows the zones with the most
octets in each instead, as names of two labels (three below in-addr.arpa and ip6.arpa).`,
		Example: `  resolverd cache stats --json
  resolverd cache stats --zones 10`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if zones < 0 || zones > maxZones {
				return usage(cmd, "--zones takes a number of zones from 1 to %d, not %d", maxZones, zones)
			}
			client, err := controlClient(cmd)
			if err != nil {
				return err
			}
			var s cacheStats
			if err := client.Call(cmd.Context(), control.VerbCacheStats, control.Stats{Zones: zones}, &s); err != nil {
				return controlError(err)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), s)
			}
			var rows [][]string
			if zones > 0 {
				for _, c := range s.Caches {
					for _, z := range c.Zones {
						rows = append(rows, []string{c.Name, z.Suffix, fmt.Sprint(z.Entries), fmt.Sprintf("%d KiB", (z.Bytes+1023)>>10)})
					}
				}
				return printTable(cmd.OutOrStdout(), []string{"CACHE", "ZONE", "ENTRIES", "SIZE"}, rows)
			}
			for _, c := range s.Caches {
				hits := c.SuccessHits + c.DenialHits + c.StaleHits
				ratio := "-"
				if all := hits + c.Misses; all > 0 {
					ratio = fmt.Sprintf("%.1f%%", 100*float64(hits)/float64(all))
				}
				rows = append(rows, []string{
					c.Name, fmt.Sprint(c.Success), fmt.Sprint(c.Denial), fmt.Sprintf("%d KiB", c.Bytes>>10),
					fmt.Sprintf("%d KiB", c.Budget>>10), fmt.Sprint(hits), fmt.Sprint(c.Misses), ratio,
					fmt.Sprint(c.SuccessEvictions + c.DenialEvictions),
				})
			}
			return printTable(cmd.OutOrStdout(), []string{"CACHE", "ANSWERS", "DENIALS", "SIZE", "BUDGET", "HITS", "MISSES", "RATIO", "EVICTED"}, rows)
		},
	}
	c.Flags().IntVar(&zones, "zones", 0, "the largest `N` zones of each cache")
	addDataDir(c)
	addJSON(c, &asJSON)
	return c
}

func newCacheFlush() *cobra.Command {
	var asJSON bool
	var f control.Flush
	c := &cobra.Command{
		Use:   "flush (NAME | --suffix NAME | --all)",
		Short: "drop a name, everything below a name, or all",
		Example: `  resolverd cache flush www.example.com
  resolverd cache flush --suffix example.com
  resolverd cache flush --all`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				f.Name = args[0]
			}
			if f.Validate() != nil {
				return usage(cmd, "flush takes one of NAME, --suffix NAME and --all")
			}
			client, err := controlClient(cmd)
			if err != nil {
				return err
			}
			n, err := client.CacheFlush(cmd.Context(), f)
			if err != nil {
				return controlError(err)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), control.Flushed{Removed: n})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d dropped\n", n)
			return nil
		},
	}
	c.Flags().StringVar(&f.Suffix, "suffix", "", "this name and all below it")
	c.Flags().BoolVar(&f.All, "all", false, "everything")
	addDataDir(c)
	addJSON(c, &asJSON)
	return c
}
