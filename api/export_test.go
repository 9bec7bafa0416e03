package api

import "net/http"

// Routes lists "METHOD path" of everything that h serves.
func Routes(h http.Handler) []string {
	var out []string
	for path, t := range h.(*server).exact {
		for m := range t.methods {
			out = append(out, m+" "+path)
		}
	}
	return out
}
