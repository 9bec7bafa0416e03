package registry

import "reflect"

// seesInstance reports whether DNS can tell the two apart.
func seesInstance(a, b *InstanceState) bool {
	if a == nil || b == nil {
		return a != b
	}
	if a.State != b.State || a.Host != b.Host && seesNode(a.Host, b.Host) {
		return true
	}
	if a.Instance == b.Instance {
		return false
	}
	x, y := *a.Instance, *b.Instance
	x.Revisions, y.Revisions = Revisions{}, Revisions{}
	x.Definition, y.Definition = "", ""
	x.Origin, y.Origin, x.Owner, y.Owner, x.EnableTagOverride, y.EnableTagOverride = "", "", "", "", false, false
	return !reflect.DeepEqual(x, y)
}

func seesNode(a, b *Node) bool {
	x, y := *a, *b
	x.Revisions, y.Revisions = Revisions{}, Revisions{}
	x.Agent, y.Agent, x.ID, y.ID = false, false, "", ""
	return !reflect.DeepEqual(x, y)
}
