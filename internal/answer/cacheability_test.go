package answer

import (
	"context"
	"testing"
)

func TestPolicy(t *testing.T) {
	if p := PolicyFrom(context.Background()); p != nil {
		t.Errorf("a policy out of nowhere: %+v", p)
	}
	Exact(context.Background()) // no cache above: nothing to tell
	var p Policy
	Exact(WithPolicy(context.Background(), &p))
	if want := (Policy{NoMinimum: true, NoStale: true}); p != want {
		t.Errorf("got %+v", p)
	}
	p.Join(Policy{NoStore: true})
	if want := (Policy{NoMinimum: true, NoStale: true, NoStore: true}); p != want {
		t.Errorf("joined to %+v", p)
	}
	(*Policy)(nil).Join(p)
}
