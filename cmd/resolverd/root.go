package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/resolverd/resolverd/cmd/resolverd/settings"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "resolverd",
		Short: "a host's resolver with a service registry",
		Long: `resolverd answers the names of internal services from a registry, forwards
service.consul to Consul and everything else upstream, and feeds balancers.`,
		Example:       "  resolverd run\n  resolverd service register --name web --port 8080 --check-http http://127.0.0.1:8080/\n  resolverd service list",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noSuchCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(newHelp())
	root.AddGroup(
		&cobra.Group{ID: "daemon", Title: "Running it:"},
		&cobra.Group{ID: "registry", Title: "The registry:"},
		&cobra.Group{ID: "control", Title: "The running resolverd:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("daemon", newRun(), newAnswer(), newAgent(), newCheck())
	add("registry", newService(), newNode(), newHistory())
	add("control", newStatus(), newReload(), newCache())
	root.AddCommand(newVersion(), newDemo(), &cobra.Command{
		Use:   "exit-codes",
		Short: "what they mean",
		Long:  exitCodesHelp,
	})
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Args = noSuchCommand
			c.RunE = func(cmd *cobra.Command, _ []string) error {
				return usage(cmd, "completion for which shell? %s", below(cmd))
			}
		}
	}
	return root
}

// newHelp is cobra's help, but what is no command is an error.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "help about a command",
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if found == nil || err != nil {
				found, rest = cmd.Root(), args
			}
			if len(rest) > 0 {
				return noSuchCommand(found, rest)
			}
			return found.Help()
		},
	}
}

// group makes a command that only has commands below it.
func group(use, short string, cmds ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage(cmd, "%s of what? %s", cmd.Name(), below(cmd))
		},
	}
	c.AddCommand(cmds...)
	return c
}

func below(cmd *cobra.Command) string {
	var v []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			v = append(v, c.Name())
		}
	}
	return strings.Join(v, ", ")
}

// noSuchCommand refuses a word that is no command, naming the one that is near.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	hint := "resolverd help " + commandWords(cmd)
	if n := settings.Nearest(args[0], names); n != "" {
		hint = fmt.Sprintf("did you mean %q?", strings.TrimSpace(cmd.CommandPath()+" "+n))
	}
	return fail(exitUsage, strings.TrimSpace(hint), "there is no command %q", strings.TrimSpace(commandWords(cmd)+" "+args[0]))
}

// flagError names the flag that was meant.
func flagError(cmd *cobra.Command, err error) error {
	word, ok := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !ok {
		var bad *pflag.InvalidValueError
		if errors.As(err, &bad) {
			f := bad.GetFlag()
			return usage(cmd, "--%s: %q is no %s", f.Name, bad.GetValue(), valueOf(f))
		}
		return usage(cmd, "%v", err)
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	slices.Sort(names)
	if n := settings.Nearest(word, names); n != "" {
		return fail(exitUsage, fmt.Sprintf("did you mean --%s?", n), "there is no flag --%s", word)
	}
	return usage(cmd, "there is no flag --%s", word)
}

// valueOf says what a flag takes.
func valueOf(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "int":
		return "whole number"
	case "duration":
		return "duration such as 500ms, 5s or 1m"
	case "bool":
		return "true or false"
	}
	return f.Value.Type()
}

// exactly refuses a wrong number of arguments in words.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usage(cmd, "%s is missing", names[len(args)])
		case len(args) > len(names):
			return usage(cmd, "%q is too much", args[len(names)])
		}
		return nil
	}
}
