package audit

import (
	"net/url"
	"strings"
)

// Match is what a path says under the operation that it matched. It never
// holds a credential: the value of such a parameter is "[redacted]". The zero
// value matched nothing. A Match may be used again; its values share memory
// with the path.
type Match struct {
	// Operation is never nil after a match, and must not be changed.
	Operation *Operation
	// MethodMiss says that the route is known and the method is not, as in a
	// call that will be answered 405. Operation then has no method, code or
	// name and is not secured, since no description speaks of it; its
	// template, target and parameters hold all the same.
	MethodMiss bool

	params []pathParam
	values [maxTemplateParams]string
}

// Match finds the operation for a method and an escaped path, as given by
// (*url.URL).EscapedPath, and reports whether the route is known.
//
// A template fits a path of just as many segments: there is no wildcard, so the
// longest one that fits is the only length. At each segment plain text is better
// than a parameter, and a route that has the method is better than one that has
// not. HEAD is GET where the API has no HEAD of its own. Case matters, in the
// method too. One slash at the end is ignored. Segments are unescaped one by one, so an escaped slash is
// part of a value and never ends one; a segment with an invalid escape is taken
// as it is. A path with an empty segment, or with a "." or ".." between
// slashes or backslashes, escaped or not, matches nothing: the API and what
// stands before it may disagree about the route that it means, and no route is
// better than a wrong one.
//
// Without an escape in the path it allocates nothing.
func (c *Catalog) Match(method, path string, m *Match) bool {
	*m = Match{}
	if c == nil {
		return false
	}
	w := walk{method: method}
	if !w.segments.split(path, c.depth) {
		return false
	}
	found := w.visit(&c.root, 0)
	if found == nil {
		if w.miss == nil {
			return false
		}
		found, m.MethodMiss = w.miss, true
	}
	m.Operation, m.params = found.operation, found.params
	for i, p := range found.params {
		switch {
		case p.secret:
			m.values[i] = redactedParam
		case w.segments.odd:
			m.values[i] = c.cutMarked(w.segments.list[p.segment])
		default:
			m.values[i] = w.segments.list[p.segment]
		}
	}
	return true
}

// walk is one search of the tree, literals first.
type walk struct {
	method   string
	segments segments
	// miss is the best route that lacks the method.
	miss *binding
}

func (w *walk) visit(n *node, depth int) *binding {
	if depth == w.segments.n {
		if n.route == nil {
			return nil
		}
		if b := n.route.binding(w.method); b != nil {
			return b
		}
		if w.miss == nil {
			w.miss = &n.route.miss
		}
		return nil
	}
	if next := n.literals[w.segments.list[depth]]; next != nil {
		if b := w.visit(next, depth+1); b != nil {
			return b
		}
	}
	if n.param == nil {
		return nil
	}
	return w.visit(n.param, depth+1)
}

// segments are a path's segments, unescaped.
type segments struct {
	n    int
	list [maxTemplateSegments]string
	// odd says that a segment held an escape or a backslash, so that it may
	// hold what others read as several segments.
	odd bool
}

// split fails on a path that matches no template; see Match.
func (s *segments) split(path string, limit int) bool {
	rest, ok := strings.CutPrefix(path, "/")
	if !ok || rest == "/" {
		return false
	}
	rest = strings.TrimSuffix(rest, "/")
	for more := rest != ""; more; {
		if s.n == limit {
			return false
		}
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		if isOdd(segment) {
			s.odd = true
			segment = unescape(segment)
			if hidesDots(segment) {
				return false
			}
		}
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
		s.list[s.n] = segment
		s.n++
	}
	return true
}

func isOdd(s string) bool {
	return strings.IndexByte(s, '%') >= 0 || strings.IndexByte(s, '\\') >= 0
}

// unescape leaves a segment with an invalid escape as it is.
func unescape(segment string) string {
	if plain, err := url.PathUnescape(segment); err == nil {
		return plain
	}
	return segment
}

// hidesDots finds a dot segment between separators of any form.
func hidesDots(segment string) bool {
	for start := 0; start < len(segment); {
		end, next := nextSeparator(segment, start)
		if part := segment[start:end]; part == "." || part == ".." {
			return true
		}
		start = next
	}
	return false
}

// Value is the unescaped value of the parameter with that name, "[redacted]"
// if it is a credential, and empty if there is no such parameter.
func (m *Match) Value(name string) string {
	for i := range m.params {
		if m.params[i].name == name {
			return m.values[i]
		}
	}
	return ""
}

// Params are the unescaped values of the route's parameters, credentials
// redacted, in a new map; nil if it has none.
func (m *Match) Params() map[string]string {
	if len(m.params) == 0 {
		return nil
	}
	params := make(map[string]string, len(m.params))
	for i, p := range m.params {
		params[p.name] = m.values[i]
	}
	return params
}

// Organization is the organization's slug in the path, or empty.
func (m *Match) Organization() string {
	if m.Operation == nil {
		return ""
	}
	return m.Value(m.Operation.Organization)
}

// Project is the project's ref in the path, or empty.
func (m *Match) Project() string {
	if m.Operation == nil {
		return ""
	}
	return m.Value(m.Operation.Project)
}

// Target is what the call is done to, as far as the path says it, or nil.
func (m *Match) Target() *Target {
	if m.Operation == nil || m.Operation.Target.Type == "" {
		return nil
	}
	t := m.Operation.Target
	return &Target{Type: t.Type, ID: m.Value(t.ID), Parent: m.Value(t.Parent)}
}
