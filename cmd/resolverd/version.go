package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/resolverd/resolverd/corefile"
)

// version is set by the build: -X main.version=...
var version = ""

// about describes this binary.
type about struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	CoreDNS  string `json:"coredns"`
	Etcd     string `json:"etcd"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	// Plugins are the Corefile's directives that this build has, in the order in which
	// they see a query.
	Plugins []string `json:"plugins"`
}

func readAbout() about {
	a := about{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Plugins: corefile.Directives()}
	bi, ok := debug.ReadBuildInfo()
	if !ok {
		return a
	}
	if a.Version == "" {
		a.Version = bi.Main.Version
	}
	for _, d := range bi.Deps {
		switch d.Path {
		case "github.com/coredns/coredns":
			a.CoreDNS = d.Version
		case "go.etcd.io/etcd/server/v3":
			a.Etcd = d.Version
		}
	}
	for _, s := range bi.Settings {
		if s.Key == "vcs.revision" {
			a.Revision = s.Value
		}
	}
	return a
}

func newVersion() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "version",
		Short:   "what this binary is",
		Example: "  resolverd version --json",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			a := readAbout()
			if asJSON {
				return printJSON(cmd.OutOrStdout(), a)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "resolverd %s (CoreDNS %s, etcd %s, %s, %s)\n", a.Version, a.CoreDNS, a.Etcd, a.Go, a.Platform)
			return nil
		},
	}
	addJSON(c, &asJSON)
	return c
}
