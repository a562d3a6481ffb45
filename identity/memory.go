package identity

import (
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// maxSampled is how many are looked at to find one that can be forgotten.
const maxSampled = 8

// memory remembers values by their credential, a bounded number of them, each
// until its time. It is not safe for concurrent use, but several may get at once.
type memory[V any] struct {
	max    int
	values map[audit.TokenSum]remembered[V]
}

type remembered[V any] struct {
	value V
	until time.Time
}

func newMemory[V any](limit int) memory[V] {
	return memory[V]{max: limit, values: map[audit.TokenSum]remembered[V]{}}
}

// get reports false for what is not there, or no longer.
func (m *memory[V]) get(sum audit.TokenSum, now time.Time) (v V, ok bool) {
	r, ok := m.values[sum]
	if !ok || now.After(r.until) {
		return v, false
	}
	return r.value, true
}

// put remembers a value, and forgets another one if there are too many: of a few
// at random the one that ends first.
func (m *memory[V]) put(sum audit.TokenSum, v V, until, now time.Time) {
	if _, there := m.values[sum]; !there && len(m.values) >= m.max {
		var (
			first   audit.TokenSum
			ends    time.Time
			sampled int
		)
		for other, r := range m.values {
			if sampled == 0 || r.until.Before(ends) {
				first, ends = other, r.until
			}
			if sampled++; sampled == maxSampled || ends.Before(now) {
				break
			}
		}
		delete(m.values, first)
	}
	m.values[sum] = remembered[V]{v, until}
}
