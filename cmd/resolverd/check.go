package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/resolverd/resolverd/cmd/resolverd/settings"
	"github.com/resolverd/resolverd/corefile"
	"github.com/resolverd/resolverd/internal/resident"
	"github.com/resolverd/resolverd/registry"
)

// checked is the result of `resolverd check`.
type checked struct {
	OK       bool           `json:"ok"`
	Config   string         `json:"config"`   // file read, or ""
	Corefile string         `json:"corefile"` // file read, or "(default Corefile)"
	Faults   []checkedFault `json:"faults"`
	Warnings []string       `json:"warnings"`
}

type checkedFault struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
}

func newCheck() *cobra.Command {
	var asJSON, printDefault bool
	c := &cobra.Command{
		Use:   "check",
		Short: "check settings and Corefile without starting",
		Long: `Checks resolverd.yaml, the environment and the Corefile as resolverd run would read
them, and starts nothing. Every fault is told with file and line; then the exit code
is 2.`,
		Example: "  resolverd check --corefile ./Corefile --config ./resolverd.yaml\n  resolverd check --print-default > Corefile",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if printDefault {
				_, err := cmd.OutOrStdout().Write(corefile.Default())
				return err
			}
			result, faults := check(cmd)
			if asJSON {
				if err := printJSON(cmd.OutOrStdout(), result); err != nil {
					return err
				}
				if faults != nil {
					return silent(exitUsage)
				}
				return nil
			}
			for _, w := range result.Warnings {
				fmt.Fprintln(cmd.ErrOrStderr(), "resolverd: warning: "+plain(w))
			}
			if faults != nil {
				return faults
			}
			config := result.Config
			if config == "" {
				config = "(no resolverd.yaml)"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "ok: %s, %s\n", config, result.Corefile)
			return nil
		},
	}
	settings.AddFlags(c.Flags())
	addJSON(c, &asJSON)
	c.Flags().BoolVar(&printDefault, "print-default", false, "print the embedded Corefile instead")
	return c
}

// check looks at the settings, then at the Corefile that they name.
func check(cmd *cobra.Command) (checked, error) {
	var all faultList
	add := func(err error) {
		var l faultList
		if errors.As(err, &l) {
			all = append(all, l...)
		} else if err != nil {
			all = append(all, fault{text: err.Error(), hint: hintOf(err)})
		}
	}
	l, err := loadSettings(cmd)
	add(err)
	result := checked{Config: l.File, Corefile: l.Corefile, Faults: []checkedFault{}, Warnings: append([]string{}, l.Warnings...)}
	if result.Corefile == "" {
		result.Corefile = corefile.DefaultPath
	}
	// The plugin asks for the view in its setup; an empty one serves.
	resident.Provide("registry.view", registry.NewView())
	corefile.SetDefaultPort(l.DNSPort)
	loaded, err := corefile.Check(corefileSource(l.Settings))
	if err != nil && !named(all, l.Corefile) {
		add(corefileError(err))
	}
	if err == nil {
		result.Warnings = append(result.Warnings, loaded.Warnings...)
	}
	result.OK = len(all) == 0
	for _, f := range all {
		result.Faults = append(result.Faults, checkedFault{f.text, f.hint})
	}
	if all == nil {
		return result, nil
	}
	return result, all
}

// named says whether the settings' faults tell already that the Corefile is not there.
func named(l faultList, corefile string) bool {
	for _, f := range l {
		if corefile != "" && (f.text == "corefile: "+corefile+" is not there or no file" ||
			f.text == "--corefile: corefile: "+corefile+" is not there or no file") {
			return true
		}
	}
	return false
}

// silent is an exit code without a word: everything was said on stdout.
type silent int

func (s silent) Error() string { return fmt.Sprintf("exit code %d", int(s)) }
