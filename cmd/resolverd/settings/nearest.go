package settings

import "strings"

// Nearest returns the candidate that word was most likely meant to be, or "" where none
// is near: at most a third of the letters differ, one that begins with word counts as
// near.
func Nearest(word string, candidates []string) string {
	word = strings.ToLower(word)
	best, bestD := "", 1<<30
	for _, c := range candidates {
		d := distance(word, strings.ToLower(c))
		if len(word) >= 3 && strings.HasPrefix(strings.ToLower(c), word) {
			d = min(d, 1)
		}
		if d < bestD {
			best, bestD = c, d
		}
	}
	if bestD > max(1, (len(word)+1)/3) {
		return ""
	}
	return best
}

// distance is the optimal string alignment distance: insert, delete, replace, and swap
// of neighbours cost 1 each.
func distance(a, b string) int {
	prev2, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}
