package main

import (
	"encoding/json"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func addJSON(c *cobra.Command, v *bool) {
	c.Flags().BoolVar(v, "json", false, "print JSON")
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// printLine writes one value as one line of JSON, for streams.
func printLine(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }

// printTable writes rows under heads, in columns.
func printTable(w io.Writer, heads []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, r := range append([][]string{heads}, rows...) {
		for i := range r {
			r[i] = plain(r[i])
			if r[i] == "" {
				r[i] = "-"
			}
		}
		if _, err := io.WriteString(t, strings.Join(r, "\t")+"\n"); err != nil {
			return err
		}
	}
	return t.Flush()
}
