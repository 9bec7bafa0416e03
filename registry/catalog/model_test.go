package catalog_test

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/catalog"
)

// world is what a sequence of writes should lead to, kept as plainly as can be.
type world struct {
	instances map[string]*thing
	tombs     map[string]tomb
	nodeMaint bool
}

type thing struct {
	Owner      registry.Owner
	Port       uint16
	Definition string
	Drain      bool
	Maint      bool
	Checks     map[string]registry.Status
}

type tomb struct {
	owner registry.Owner
	def   string
}

func (w *world) register(a catalog.Actor, id string, port uint16, def string, checks []string, replace bool) (changed bool, err error) {
	had := w.instances[id]
	if t, ok := w.tombs[id]; ok {
		switch {
		case a.Owner == registry.OwnerAPI:
			delete(w.tombs, id)
			changed = true
		case t.owner == a.Owner && t.def == def:
			return false, catalog.ErrTombstoned
		}
	}
	if had != nil && had.Owner != a.Owner && a.Owner != registry.OwnerAPI {
		return false, catalog.ErrOwned
	}
	if t, ok := w.tombs[id]; ok && t.owner == a.Owner {
		delete(w.tombs, id)
		changed = true
	}
	if had == nil {
		had = &thing{Checks: map[string]registry.Status{}}
		w.instances[id] = had
		changed = true
	}
	drain := had.Drain && (def == "" || def == had.Definition)
	if had.Owner != a.Owner || had.Port != port || had.Definition != def || had.Drain != drain {
		changed = true
	}
	had.Owner, had.Port, had.Definition, had.Drain = a.Owner, port, def, drain
	for _, k := range checks {
		if _, ok := had.Checks[k]; !ok {
			had.Checks[k] = registry.Critical
			changed = true
		}
	}
	for k := range had.Checks {
		if replace && !slices.Contains(checks, k) {
			delete(had.Checks, k)
			changed = true
		}
	}
	return changed, nil
}

func (w *world) deregister(a catalog.Actor, id string) (bool, error) {
	i := w.instances[id]
	back := a.Owner == registry.OwnerFile || a.Owner == registry.OwnerDocker
	if i != nil && (i.Owner == a.Owner || !back) {
		delete(w.instances, id)
		if i.Owner != registry.OwnerAPI && i.Owner != a.Owner {
			w.tombs[id] = tomb{i.Owner, i.Definition}
		} else if w.tombs[id].owner == a.Owner {
			delete(w.tombs, id)
		}
		return true, nil
	}
	if t, ok := w.tombs[id]; ok && t.owner == a.Owner {
		delete(w.tombs, id)
		return true, nil
	}
	if i != nil {
		return false, catalog.ErrOwned
	}
	return false, catalog.ErrNotFound
}

// shown reads the same out of the view.
func (b *bench) shown(ids []string) world {
	w := world{instances: map[string]*thing{}, tombs: map[string]tomb{}}
	s := b.store.View.Load()
	w.nodeMaint = b.Check("n1", registry.NodeMaintenance) != nil
	for _, id := range ids {
		if t := s.Tombstone("n1", id); t != nil {
			w.tombs[id] = tomb{t.Owner, t.Definition}
		}
		i := s.Instance("n1", id)
		if i == nil {
			continue
		}
		x := &thing{Owner: i.Owner, Port: i.Port, Definition: i.Definition, Drain: i.Drain, Checks: map[string]registry.Status{}}
		for _, k := range i.Checks {
			switch {
			case k.ID == registry.ServiceMaintenance+id:
				x.Maint = true
			case k.InstanceID != "":
				x.Checks[k.ID] = k.Status
			}
		}
		w.instances[id] = x
	}
	return w
}

func TestAgainstModel(t *testing.T) {
	byDocker := catalog.Actor{Owner: registry.OwnerDocker, Name: "docker"}
	ids := []string{"a", "b", "c"}
	rapid.Check(t, func(rt *rapid.T) {
		b := newBench(t)
		w := world{instances: map[string]*thing{}, tombs: map[string]tomb{}}
		ctx := t.Context()
		id := rapid.SampledFrom(ids)
		on := rapid.Bool()
		actor := rapid.SampledFrom([]catalog.Actor{byAPI, byFile, byDocker, reaper})
		agree := func(what string, changed, wantChanged bool, err, want error) {
			rt.Helper()
			if !errors.Is(err, want) || err == nil && changed != wantChanged {
				rt.Fatalf("%s: changed %v %v, the model says %v %v", what, changed, err, wantChanged, want)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"register": func(rt *rapid.T) {
				a, i := rapid.SampledFrom([]catalog.Actor{byAPI, byFile, byDocker}).Draw(rt, "actor"), id.Draw(rt, "id")
				port, def := uint16(rapid.IntRange(1, 2).Draw(rt, "port")), ""
				if a.Owner != registry.OwnerAPI {
					def = rapid.SampledFrom([]string{"d1", "d2"}).Draw(rt, "definition")
				}
				names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"x", "y"}), 0, 2, rapid.ID).Draw(rt, "checks")
				replace := on.Draw(rt, "replace")
				var full []string
				var checks []*registry.Check
				for _, n := range names {
					full = append(full, i+n)
					checks = append(checks, ttl(i+n, i, ""))
				}
				want, wantErr := w.register(a, i, port, def, full, replace)
				r, err := b.Register(ctx, a, catalog.Registration{
					Instance: web(i, func(x *registry.Instance) { x.Port = port }), Checks: checks, ReplaceChecks: replace, Definition: def,
				})
				agree("register", r.Changed, want, err, wantErr)
			},
			"deregister": func(rt *rapid.T) {
				a, i := actor.Draw(rt, "actor"), id.Draw(rt, "id")
				want, wantErr := w.deregister(a, i)
				r, err := b.Deregister(ctx, a, "n1", i)
				agree("deregister", r.Changed, want, err, wantErr)
			},
			"status": func(rt *rapid.T) {
				i := id.Draw(rt, "id")
				k, st := i+rapid.SampledFrom([]string{"x", "y"}).Draw(rt, "check"), rapid.SampledFrom([]registry.Status{registry.Passing, registry.Warning, registry.Critical}).Draw(rt, "status")
				var wantErr error
				if x := w.instances[i]; x == nil {
					wantErr = catalog.ErrNotFound
				} else if _, ok := x.Checks[k]; !ok {
					wantErr = catalog.ErrNotFound
				} else {
					x.Checks[k] = st
				}
				_, err := b.SetStatus(ctx, byAPI, "n1", k, st, "")
				agree("status", false, false, err, wantErr)
				if err == nil {
					r, err := b.SetStatus(ctx, byAPI, "n1", k, st, "")
					agree("status again", r.Changed, false, err, nil)
				}
			},
			"maintenance": func(rt *rapid.T) {
				i, set := id.Draw(rt, "id"), on.Draw(rt, "on")
				want, wantErr := false, error(nil)
				if x := w.instances[i]; x == nil {
					wantErr = catalog.ErrNotFound
				} else {
					want, x.Maint = x.Maint != set, set
				}
				r, err := b.SetMaintenance(ctx, byAPI, "n1", i, set, "why")
				agree("maintenance", r.Changed, want, err, wantErr)
			},
			"node maintenance": func(rt *rapid.T) {
				set := on.Draw(rt, "on")
				want := w.nodeMaint != set
				w.nodeMaint = set
				r, err := b.SetMaintenance(ctx, byAPI, "n1", "", set, "why")
				agree("node maintenance", r.Changed, want, err, nil)
			},
			"drain": func(rt *rapid.T) {
				i, set := id.Draw(rt, "id"), on.Draw(rt, "on")
				want, wantErr := false, error(nil)
				if x := w.instances[i]; x == nil {
					wantErr = catalog.ErrNotFound
				} else {
					want, x.Drain = x.Drain != set, set
				}
				r, err := b.SetDrain(ctx, byAPI, "n1", i, set)
				agree("drain", r.Changed, want, err, wantErr)
			},
			"": func(rt *rapid.T) {
				got := b.shown(ids)
				if diff := cmp.Diff(w, got, cmp.AllowUnexported(world{}, tomb{})); diff != "" {
					rt.Fatalf("model and view differ: %s", diff)
				}
				// Nothing is left behind by what is gone.
				for _, key := range b.store.Keys() {
					k, err := registry.ParseKey(key)
					if err != nil {
						rt.Fatal(err)
					}
					if k.Kind == registry.KindCheck && k.ID != registry.NodeMaintenance {
						alive := slices.ContainsFunc(slices.Collect(maps.Keys(w.instances)), func(id string) bool {
							return k.ID[0] == id[0] || k.ID == registry.ServiceMaintenance+id
						})
						if !alive {
							rt.Fatalf("%s is left", key)
						}
					}
				}
			},
		})
	})
}
