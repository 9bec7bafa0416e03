package forward

// Routes returns the zone that this directive forwards, for plugins above that would
// otherwise answer names in it themselves (specialuse).
func (f *Forward) Routes() []string { return []string{f.from} }
