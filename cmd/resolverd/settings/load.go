package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// Source says where to look.
type Source struct {
	// File is resolverd.yaml; it must be there. "" means DefaultFile where that exists.
	File string
	// Environ is the environment as os.Environ gives it.
	Environ []string
	// Flags are the command's flags; those of [Keys] that it has are used, by their
	// Flag name. May be nil.
	Flags *pflag.FlagSet
}

// Loaded is the result of Load.
type Loaded struct {
	Settings
	// File is the file that was read, or "".
	File string
	// Warnings are worth a line in the log and stop nothing.
	Warnings []string
}

// clientVariables are read by commands that talk to a running resolverd, not here.
var clientVariables = []string{"RESOLVERD_CONFIG", "RESOLVERD_API", "RESOLVERD_API_TOKEN", "RESOLVERD_READY_FD", "RESOLVERD_PROCESS"}

// corefileVariables belong to the embedded Corefile.
var corefileVariables = []string{"RESOLVERD_PORT", "RESOLVERD_LISTEN", "RESOLVERD_HEALTH", "RESOLVERD_READY", "RESOLVERD_METRICS", "RESOLVERD_UPSTREAM"}

// separator is viper's, in place of the dot.
const separator = "::"

// Load reads file, environment and flags, in that order, later ones winning. The error
// is [Faults], or that the file cannot be read.
func Load(src Source) (Loaded, error) {
	out := Loaded{Settings: Default(), File: src.File}
	if out.File == "" && isFile(DefaultFile) {
		out.File = DefaultFile
	}
	f, err := readFile(out.File)
	if err != nil {
		var p *fs.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return out, fmt.Errorf("settings: read %s: %w", out.File, err)
	}
	faults := f.faults

	env := map[string]string{}
	for _, kv := range src.Environ {
		if name, v, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(name, envPrefix) && v != "" {
			env[name] = v
		}
	}
	v, err := merge(f, env, src.Flags)
	if err != nil {
		return out, err
	}
	where := map[string]string{}
	for _, k := range keys {
		text, at := v.GetString(strings.ReplaceAll(k.Name, ".", separator)), origin(k, f, env, src.Flags)
		if at == "" || text == "" {
			continue
		}
		where[k.Name] = at
		if strings.HasPrefix(at, "--") && k.Form == "absolute path" {
			if abs, err := filepath.Abs(text); err == nil {
				text = abs
			}
		}
		if err := k.set(&out.Settings, text); err != nil {
			faults = append(faults, Fault{Where: at, Key: k.Name, Text: err.Error()})
			// The default stands in, so that the other checks have something to look at.
			k.reset(&out.Settings)
		}
	}
	out.Node.Meta = f.meta
	for name := range env {
		if !knownVariable(name) {
			w := fmt.Sprintf("environment variable %s is no setting", name)
			if n := Nearest(name, variables()); n != "" {
				w += fmt.Sprintf("; did you mean %s?", n)
			}
			out.Warnings = append(out.Warnings, w)
		}
	}
	slices.Sort(out.Warnings)
	for _, fault := range out.readToken() {
		fault.Where = where[fault.Key]
		faults = append(faults, fault)
	}
	for _, fault := range out.Settings.Validate() {
		fault.Where = where[fault.Key]
		if !slices.ContainsFunc(faults, func(g Fault) bool { return g.Key == fault.Key && g.Where == fault.Where }) {
			faults = append(faults, fault)
		}
	}
	if len(faults) > 0 {
		return out, faults
	}
	return out, nil
}

// merge lays the environment over the file and the flags over both.
func merge(f *file, env map[string]string, flags *pflag.FlagSet) (*viper.Viper, error) {
	v := viper.NewWithOptions(viper.KeyDelimiter(separator))
	tree := map[string]any{}
	for name, val := range f.values {
		at := tree
		section, last, ok := strings.Cut(name, ".")
		if ok {
			inner, _ := tree[section].(map[string]any)
			if inner == nil {
				inner = map[string]any{}
				tree[section] = inner
			}
			at = inner
		} else {
			last = section
		}
		at[last] = val.text
	}
	if err := v.MergeConfigMap(tree); err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	for _, k := range keys {
		name := strings.ReplaceAll(k.Name, ".", separator)
		// Not AutomaticEnv and not BindPFlag: the environment is handed in, and a flag
		// that was not given must not cover anything.
		if text := env[k.Env()]; text != "" {
			v.Set(name, text)
		}
		if fl := given(k, flags); fl != nil {
			v.Set(name, fl.Value.String())
		}
	}
	return v, nil
}

func given(k Key, flags *pflag.FlagSet) *pflag.Flag {
	if flags == nil || k.Flag == "" {
		return nil
	}
	if fl := flags.Lookup(k.Flag); fl != nil && fl.Changed {
		return fl
	}
	return nil
}

// origin says who set the key, or "" where nobody did.
func origin(k Key, f *file, env map[string]string, flags *pflag.FlagSet) string {
	if given(k, flags) != nil {
		return "--" + k.Flag
	}
	if env[k.Env()] != "" {
		return k.Env()
	}
	if v, ok := f.values[k.Name]; ok {
		return f.at(v.line)
	}
	return ""
}

// reset gives the key's field its default again.
func (k Key) reset(s *Settings) {
	d := Default()
	switch k.Name {
	case "node.address":
		s.Node.Address = d.Node.Address
	case "data_dir":
		s.DataDir = d.DataDir
	case "corefile":
		s.Corefile = d.Corefile
	case "services_dir":
		s.ServicesDir = d.ServicesDir
	case "dns_port":
		s.DNSPort = d.DNSPort
	case "api.address":
		s.API.Address = d.API.Address
	case "api.token_file":
		s.API.TokenFile = d.API.TokenFile
	case "checks.interval":
		s.Checks.Interval = d.Checks.Interval
	case "checks.timeout":
		s.Checks.Timeout = d.Checks.Timeout
	}
}

func knownVariable(name string) bool {
	return slices.Contains(clientVariables, name) || slices.Contains(corefileVariables, name) || slices.Contains(variables(), name) ||
		// Kubernetes sets these for a Service that is named resolverd.
		strings.HasPrefix(name, "RESOLVERD_SERVICE_") || strings.HasPrefix(name, "RESOLVERD_PORT_")
}

func variables() []string {
	n := make([]string, len(keys))
	for i := range keys {
		n[i] = keys[i].Env()
	}
	return n
}

// maxToken bounds the token file.
const maxToken = 4096

// readToken fills API.Token from API.TokenFile.
func (l *Loaded) readToken() Faults {
	p := l.API.TokenFile
	if p == "" {
		return nil
	}
	fault := func(text, hint string) Faults {
		return Faults{{Key: "api.token_file", Text: text, Hint: hint}}
	}
	fi, err := os.Stat(p)
	if err != nil {
		return fault(fmt.Sprintf("%s: %v", p, errors.Unwrap(err)), "")
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxToken {
		return fault(fmt.Sprintf("%s is not a regular file of at most %d octets", p, maxToken), "")
	}
	b, err := os.ReadFile(p)
	if err != nil {
		return fault(fmt.Sprintf("%s: %v", p, errors.Unwrap(err)), "")
	}
	t := strings.TrimSpace(string(b))
	switch {
	case t == "":
		return fault(p+" is empty", "head -c 24 /dev/urandom | base64 > "+p)
	case strings.ContainsFunc(t, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fault(p+" holds more than one word of printable ASCII", "one token, on one line")
	}
	if fi.Mode().Perm()&0o044 != 0 {
		l.Warnings = append(l.Warnings, fmt.Sprintf("%s can be read by others; chmod 600 it", p))
	}
	l.API.Token = t
	return nil
}
