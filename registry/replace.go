package registry

import (
	"cmp"
	"slices"
	"strings"
)

func compareKeys(a, b InstanceKey) int {
	return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.ID, b.ID))
}

func foldedKey(i *InstanceState) InstanceKey { return InstanceKey{Node: Fold(i.Node), ID: i.ID} }

// replace returns a copy of list, which is sorted by key, with the members put in their
// places; a nil member is taken out. A few changes in a long list cost one copy, many
// cost a sort.
func replace(list []*InstanceState, members map[InstanceKey]*InstanceState) []*InstanceState {
	if len(members) == 0 {
		return list
	}
	if len(members) > 8+len(list)/16 {
		out := make([]*InstanceState, 0, len(list)+len(members))
		for _, i := range list {
			if _, ok := members[foldedKey(i)]; !ok {
				out = append(out, i)
			}
		}
		for _, i := range members {
			if i != nil {
				out = append(out, i)
			}
		}
		slices.SortFunc(out, func(a, b *InstanceState) int { return compareKeys(foldedKey(a), foldedKey(b)) })
		return out
	}
	out := append(make([]*InstanceState, 0, len(list)+len(members)), list...)
	for k, m := range members {
		at, found := slices.BinarySearchFunc(out, k, func(i *InstanceState, k InstanceKey) int {
			return compareKeys(foldedKey(i), k)
		})
		switch {
		case found && m != nil:
			out[at] = m
		case found:
			out = slices.Delete(out, at, at+1)
		case m != nil:
			out = slices.Insert(out, at, m)
		}
	}
	return out
}
