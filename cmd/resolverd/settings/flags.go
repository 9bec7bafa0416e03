package settings

import "github.com/spf13/pflag"

// AddFlags gives fs the flag of every setting that has one, and --config. Values are
// taken as text: Load parses them, so that all faults are told at once.
func AddFlags(fs *pflag.FlagSet) {
	fs.String("config", "", "resolverd.yaml (default "+DefaultFile+" if it is there)")
	for _, k := range keys {
		if k.Flag != "" {
			fs.String(k.Flag, "", k.Doc)
			fs.Lookup(k.Flag).DefValue = ""
		}
	}
}
