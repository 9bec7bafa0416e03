package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/resolverd/resolverd/api"
	"github.com/resolverd/resolverd/api/client"
	"github.com/resolverd/resolverd/cmd/resolverd/settings"
	"github.com/resolverd/resolverd/registry"
)

func newService() *cobra.Command {
	return group("service", "register, deregister and look at services",
		newServiceRegister(), newServiceDeregister(), newServiceList(), newServiceShow(), newServiceWatch(),
		newServiceSwitch("maintenance", "take an instance out of all answers, as its own critical check would",
			"in maintenance", (*client.Client).Maintenance),
		newServiceSwitch("drain", "send an instance no new clients: out of A and AAAA, weight 0 in SRV",
			"draining", (*client.Client).Drain))
}

// written is the result of a write, for --json.
type written struct {
	Service string `json:"service,omitempty"`
	ID      string `json:"id"`
	Changed bool   `json:"changed"`
}

func newServiceRegister() *cobra.Command {
	var f serviceFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "register (--name NAME ... | -f FILE)",
		Short: "register a service on this node; the same twice changes nothing",
		Long: `Registers an instance of a service with the agent of this host. Registering what is
there already changes nothing and says so, with exit code 0: run it as often as you
like. A file may have one service or many, in the form of services.d or of Consul's API.`,
		Example: `  resolverd service register --name web --port 8080 --check-http http://127.0.0.1:8080/
  resolverd service register --name db --id db1 --address 10.0.0.5 --port 5432 --tag primary --check-tcp 10.0.0.5:5432
  resolverd service register -f web.json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			defs, err := f.definitions(cmd.Flags(), cmd.InOrStdin())
			if err != nil {
				return err
			}
			c, err := newAPIClient(cmd)
			if err != nil {
				return err
			}
			out := []written{}
			for _, d := range defs {
				r, err := c.Register(cmd.Context(), d.instance, d.checks)
				if err != nil {
					return errorAbout(d.instance.ID, len(defs) > 1, apiError(err))
				}
				out = append(out, written{d.instance.Service, d.instance.ID, r.Changed})
				if !asJSON {
					what := "registered"
					if !r.Changed {
						what = "unchanged"
					}
					fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", what, plain(instanceName(d.instance.Service, d.instance.ID)))
				}
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), out)
			}
			return nil
		},
	}
	f.add(c.Flags())
	c.Flags().SortFlags = false
	addAPI(c)
	addJSON(c, &asJSON)
	return c
}

// instanceName names an instance: its id only where that says more.
func instanceName(service, id string) string {
	if id == service {
		return service
	}
	return service + " (" + id + ")"
}

// errorAbout says which of several an error is about.
func errorAbout(id string, several bool, err error) error {
	var f *failure
	if !several || !errors.As(err, &f) {
		return err
	}
	return &failure{code: f.code, err: fmt.Errorf("%s: %w", id, f.err), hint: f.hint}
}

func newServiceDeregister() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "deregister ID",
		Short:   "deregister an instance of this node, with its checks",
		Example: "  resolverd service deregister web",
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := newAPIClient(cmd)
			if err != nil {
				return err
			}
			r, err := c.Deregister(cmd.Context(), "", args[0])
			if err != nil {
				return noInstance(cmd.Context(), c, args[0], apiError(err))
			}
			if r.Tombstone != "" {
				fmt.Fprintf(cmd.ErrOrStderr(), "note: it came from %s, which would register it again; it stays away until its definition there changes\n", plain(r.Tombstone))
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), written{ID: args[0], Changed: r.Changed})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "deregistered: %s\n", plain(args[0]))
			return nil
		},
	}
	addAPI(c)
	addJSON(c, &asJSON)
	return c
}

// noInstance adds the ids that a service of the name has to an error about an unknown id.
func noInstance(ctx context.Context, c *client.Client, id string, err error) error {
	var f *failure
	if !errors.As(err, &f) || f.code != exitNotFound {
		return err
	}
	f = &failure{code: f.code, err: fmt.Errorf("there is no instance with the id %q on this node", id)}
	all, e := c.Instances(ctx, client.Query{})
	if e != nil {
		return f
	}
	var of, ids []string
	for _, i := range all {
		ids = append(ids, i.ID)
		if strings.EqualFold(i.Service, id) {
			of = append(of, i.ID)
		}
	}
	if len(of) > 0 {
		f.hint = "the service " + id + " has: " + strings.Join(of[:min(len(of), 10)], ", ")
	} else if n := settings.Nearest(id, ids); n != "" {
		f.hint = fmt.Sprintf("did you mean %q?", n)
	}
	return f
}

// newServiceSwitch makes maintenance and drain, which are switched on and off.
func newServiceSwitch(name, short, state string,
	set func(c *client.Client, ctx context.Context, node, id string, on bool, reason string) (client.Result, error),
) *cobra.Command {
	var asJSON, off bool
	var reason string
	c := &cobra.Command{
		Use:     name + " ID [--off]",
		Short:   short,
		Example: fmt.Sprintf("  resolverd service %[1]s web --reason 'new kernel'\n  resolverd service %[1]s web --off", name),
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := newAPIClient(cmd)
			if err != nil {
				return err
			}
			r, err := set(c, cmd.Context(), "", args[0], !off, reason)
			if err != nil {
				return noInstance(cmd.Context(), c, args[0], apiError(err))
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), written{ID: args[0], Changed: r.Changed})
			}
			not, how := "", ""
			if off {
				not = "not "
			}
			if !r.Changed {
				how = " (unchanged)"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s%s%s\n", plain(args[0]), not, state, how)
			return nil
		},
	}
	c.Flags().BoolVar(&off, "off", false, "end it")
	c.Flags().StringVar(&reason, "reason", "", "why, for those who look")
	addAPI(c)
	addJSON(c, &asJSON)
	return c
}

// serviceRow is one service of `service list`.
type serviceRow struct {
	Service   string   `json:"service"`
	Answered  int      `json:"answered"` // instances that are in A answers now
	Instances int      `json:"instances"`
	Tags      []string `json:"tags"`
}

func newServiceList() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "list",
		Short:   "all services, with how many instances are answered",
		Example: "  resolverd service list --json",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := newAPIClient(cmd)
			if err != nil {
				return err
			}
			all, err := c.Instances(cmd.Context(), client.Query{})
			if err != nil {
				return apiError(err)
			}
			list := servicesOf(all)
			if asJSON {
				return printJSON(cmd.OutOrStdout(), list)
			}
			if len(list) == 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "no services are registered")
				return nil
			}
			var rows [][]string
			for _, r := range list {
				rows = append(rows, []string{r.Service, fmt.Sprintf("%d/%d", r.Answered, r.Instances), strings.Join(r.Tags, ",")})
			}
			return printTable(cmd.OutOrStdout(), []string{"SERVICE", "ANSWERED", "TAGS"}, rows)
		},
	}
	addAPI(c)
	addJSON(c, &asJSON)
	return c
}

// servicesOf counts instances, which come sorted by service, by service.
func servicesOf(all []api.Instance) []serviceRow {
	list := []serviceRow{}
	for _, i := range all {
		if n := len(list); n == 0 || !strings.EqualFold(list[n-1].Service, i.Service) {
			list = append(list, serviceRow{Service: i.Service, Tags: []string{}})
		}
		r := &list[len(list)-1]
		r.Instances++
		if i.Weight > 0 {
			r.Answered++
		}
		for _, t := range i.Tags {
			if !slices.Contains(r.Tags, t) {
				r.Tags = append(r.Tags, t)
			}
		}
	}
	for _, r := range list {
		slices.Sort(r.Tags)
	}
	return list
}

func newServiceShow() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "show NAME",
		Short:   "the instances of a service, their states and checks",
		Example: "  resolverd service show web",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := newAPIClient(cmd)
			if err != nil {
				return err
			}
			list, err := c.Instances(cmd.Context(), client.Query{Service: args[0]})
			if err != nil {
				return apiError(err)
			}
			if len(list) == 0 {
				return noService(cmd.Context(), c, args[0])
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), list)
			}
			return showService(cmd.OutOrStdout(), list)
		},
	}
	addAPI(c)
	addJSON(c, &asJSON)
	return c
}

func noService(ctx context.Context, c *client.Client, name string) error {
	f := &failure{code: exitNotFound, err: fmt.Errorf("there is no service %q", name)}
	if all, err := c.Instances(ctx, client.Query{}); err == nil {
		var names []string
		for _, r := range servicesOf(all) {
			names = append(names, r.Service)
		}
		if n := settings.Nearest(name, names); n != "" {
			f.hint = fmt.Sprintf("did you mean %q?", n)
		}
	}
	return f
}

func showService(w io.Writer, list []api.Instance) error {
	var rows, checks [][]string
	for _, i := range list {
		rows = append(rows, []string{
			i.ID, i.Node, endpointOf(i), i.State, fmt.Sprint(i.Weight), strings.Join(i.Tags, ","), string(i.Owner),
		})
		for _, k := range i.Checks {
			says := k.Output
			if k.ID == registry.NodeMaintenance || strings.HasPrefix(k.ID, registry.ServiceMaintenance) {
				says = k.Notes // why
			}
			checks = append(checks, []string{i.ID, k.Node, k.ID, kindOf(k), string(k.Status), firstLine(says)})
		}
	}
	if err := printTable(w, []string{"ID", "NODE", "ADDRESS", "STATE", "WEIGHT", "TAGS", "OWNER"}, rows); err != nil {
		return err
	}
	if len(checks) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	return printTable(w, []string{"ID", "NODE", "CHECK", "KIND", "STATUS", "OUTPUT"}, checks)
}

func kindOf(k *registry.Check) string {
	if k.Definition == nil {
		return ""
	}
	return string(k.Definition.Kind)
}

func endpointOf(i api.Instance) string {
	a := i.Addr.String()
	if i.Port == 0 {
		return a
	}
	if strings.Contains(a, ":") {
		a = "[" + a + "]"
	}
	return a + ":" + strconv.Itoa(int(i.Port))
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	if len(s) > 80 {
		s = s[:77] + "..."
	}
	return s
}

// change is one line of `service watch`.
type change struct {
	Time    time.Time `json:"time"`
	What    string    `json:"what"` // "there", "new", "changed", "gone"
	ID      string    `json:"id"`
	Node    string    `json:"node"`
	Address string    `json:"address"`
	State   string    `json:"state"`
	Weight  uint16    `json:"weight"`
}

func newServiceWatch() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "watch NAME",
		Short: "a line for each change of a service's instances, until Ctrl-C",
		Long: `Prints the instances of a service, then a line for each that comes, changes or goes.
The service need not be there yet. With --json each line is an object.`,
		Example: "  resolverd service watch web",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := newAPIClient(cmd)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			if _, err := c.Status(ctx); err != nil {
				return apiError(err)
			}
			return apiError(watch(ctx, c, args[0], cmd.ErrOrStderr(), func(ch change) error {
				if asJSON {
					return printLine(cmd.OutOrStdout(), ch)
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %-7s %s %s %s %s weight %d\n",
					ch.Time.Format(time.TimeOnly), ch.What, plain(ch.ID), plain(ch.Node), plain(ch.Address), ch.State, ch.Weight)
				return err
			}))
		},
	}
	addAPI(c)
	addJSON(c, &asJSON)
	return c
}

// watch calls tell for each change until ctx ends, the API refuses or tell fails.
func watch(ctx context.Context, c *client.Client, service string, stderr io.Writer, tell func(change) error) error {
	var before []change
	first, away := true, false
	show := func(list []api.Instance) error {
		away = false
		now := make([]change, len(list))
		for n, i := range list {
			now[n] = change{ID: i.ID, Node: i.Node, Address: endpointOf(i), State: i.State, Weight: i.Weight}
		}
		for _, ch := range diff(before, now, first) {
			ch.Time = time.Now()
			if err := tell(ch); err != nil {
				return err
			}
		}
		before, first = now, false
		return nil
	}
	return c.Watch(ctx, client.Query{Service: service}, show, func(err error) {
		if !away {
			fmt.Fprintf(stderr, "resolverd: warning: %s; trying again\n", plain(err.Error()))
		}
		away = true
	})
}

// diff returns what differs between two lists of instances, without times.
func diff(before, now []change, first bool) []change {
	type key struct{ node, id string }
	old := map[key]change{}
	for _, b := range before {
		b.What = ""
		old[key{b.Node, b.ID}] = b
	}
	var out []change
	for _, n := range now {
		k := key{n.Node, n.ID}
		b, ok := old[k]
		delete(old, k)
		switch {
		case first:
			n.What = "there"
		case !ok:
			n.What = "new"
		case b != n:
			n.What = "changed"
		default:
			continue
		}
		out = append(out, n)
	}
	for _, b := range before {
		if gone, ok := old[key{b.Node, b.ID}]; ok {
			gone.What = "gone"
			out = append(out, gone)
		}
	}
	return out
}
