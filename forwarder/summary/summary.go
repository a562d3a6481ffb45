// Package summary tells what does not occur among some entries, in about a hundredth of
// their room: whoever searches for it passes them over.
//
// A Summary may say of something that it occurs and be wrong, and never the other way
// round, whatever is added to it later. Entries may be taken away from what it is about.
package summary

import (
	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// Summary is of some entries: the values of their Briefs, and the texts that HasText looks
// into. A zero Filter may have everything.
type Summary struct{ Values, Texts Filter }

// Add adds an entry, by its Brief and by itself with the stamp on it.
func (s *Summary) Add(b *audit.Brief, e *audit.Entry) {
	c := collector{value: s.Values.Add, text: s.Texts.Add}
	c.add(b, e)
}

// AddUnknown adds an entry that nobody can read: nothing is passed over any more.
func (s *Summary) AddUnknown() { *s = Summary{} }

// Maker makes a Summary of entries. The zero value has none. It is used by one goroutine.
type Maker struct {
	values, texts map[uint64]struct{}
	collector     collector
	unknown       bool
}

// Add adds an entry, by its Brief and by itself with the stamp on it. It keeps neither.
func (m *Maker) Add(b *audit.Brief, e *audit.Entry) {
	if m.values == nil {
		m.values, m.texts = map[uint64]struct{}{}, map[uint64]struct{}{}
		m.collector = collector{
			value: func(key uint64) { m.values[key] = struct{}{} },
			text:  func(key uint64) { m.texts[key] = struct{}{} },
			known: map[seen]struct{}{},
		}
	}
	m.collector.add(b, e)
}

// AddUnknown is Summary.AddUnknown.
func (m *Maker) AddUnknown() { m.unknown = true }

// Summary is of all that was added, with room for some more.
func (m *Maker) Summary() Summary {
	if m.unknown {
		return Summary{}
	}
	return Summary{filterOf(m.values), filterOf(m.texts)}
}

func filterOf(keys map[uint64]struct{}) Filter {
	f := newFilter(len(keys))
	for k := range keys {
		f.Add(k)
	}
	return f
}

// collector takes entries apart.
type collector struct {
	value, text func(uint64)
	// known are texts that were there before, most of which come again and again; nil
	// if that is not looked at.
	known map[seen]struct{}
	texts []string
}

// seen is a text in a view.
type seen struct {
	view view
	text string
}

// maxKnown bounds known, and maxKnownText each of them.
const (
	maxKnown     = 4096
	maxKnownText = 256
)

func (c *collector) add(b *audit.Brief, e *audit.Entry) {
	if b.Membership == audit.MembershipUnproven {
		valueKeys(operators, b, c.value)
		attempt := b.Attempt()
		valueKeys(everybody, &attempt, c.value)
	} else {
		valueKeys(everybody, b, c.value)
	}
	// The entry's own stamp decides about its texts, as it does when they are compared.
	attempt := e.Attempt()
	c.addTexts(everybody, attempt)
	if attempt != e {
		c.addTexts(operators, e)
	}
}

func (c *collector) addTexts(v view, e *audit.Entry) {
	c.texts = forwarder.AppendTexts(c.texts[:0], e)
	for _, t := range c.texts {
		if c.known != nil && len(t) <= maxKnownText {
			s := seen{v, t}
			if _, ok := c.known[s]; ok {
				continue
			}
			if len(c.known) >= maxKnown {
				clear(c.known)
			}
			c.known[s] = struct{}{}
		}
		textKeys(v, forwarder.Fold(t), c.text)
	}
}
