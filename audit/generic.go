package audit

import "strings"

const (
	// maxGuessedPath bounds the paths that are generalised, in bytes.
	maxGuessedPath = 4 << 10
	// maxPlainSegment bounds what is taken for a word of the route. With
	// maxTemplateSegments it keeps a route within what an entry records.
	maxPlainSegment = 48
	// idParam stands for every id. An auditor groups by route, and what kind
	// of id it was is in the path.
	idParam = "{id}"
)

// Generic is the platform "generic", for an API that nobody described. Its
// calls have a route by RouteOf and a target by Platform.Guess, and neither
// code nor name, which nobody gave. Of credentials it recognises JWTs, and of
// their claims those that OpenID Connect and RFC 9068 register.
func Generic() *Platform { return generic }

var generic = &Platform{Name: "generic", Claims: openIDClaims}

// Guess is what can be said about a path that the catalog does not know: its
// route by RouteOf, without what may be a credential by the catalog's routes.
//
// Without a catalog it also guesses the target: the last id is a thing, its
// type the plain text before it, as it stands there, and its parent the id
// before that. So in /orders/123/items/9 the target is 9 of items with the
// parent 123, and in /orders/123/cancel as in /orders/123/items it is 123 of
// orders, since only a description could tell a verb from a collection. With a
// catalog there is none: its types would stand beside those of the catalog
// under other names.
func (p *Platform) Guess(path string) (route string, target *Target) {
	if len(path) > maxGuessedPath {
		return "", nil
	}
	if p.Catalog != nil {
		path = p.Catalog.RedactPath(path, &Match{})
		g := guess{p: p}
		if !g.read(path) {
			return "", nil
		}
		return g.route(path), nil
	}
	g := guess{p: p}
	if !g.read(path) {
		return "", nil
	}
	return g.route(path), g.target()
}

// RouteOf guesses the route template of an escaped path from the form of its
// segments: what looks like an id is {id}, all else stays as it is. Ids are
//
//   - UUIDs, decimal numbers, 20 lower-case letters, and 8 or more hex digits
//     of one case with a decimal one among them: deadbeef is a word;
//   - 20 or more characters of letters and digits that do not read as words,
//     such as ULIDs, and shorter ones behind a prefix, as in cus_NffrFeUfNV2Hib,
//     or whose letters and digits alternate;
//   - what holds four or more decimal digits, or such a hex number, between
//     separators: invoice-2026-0042, build-9f86d081;
//   - such an id with the extension of a file;
//   - whatever holds more than ASCII letters, digits and -._~:$, such as email
//     addresses, or is longer than a word of a route would be;
//   - everything that may be a credential.
//
// A verb behind the id stays, as in /things/{id}:cancel. A short id of letters
// only cannot be told from a word and stays too.
//
// It reads a path as Catalog.Match does and gives no route, the empty string,
// to what would match nothing there for its form, and to paths that are too
// long. A route is a path itself, of bounded length and in ASCII, and its own
// route. It never panics, whatever the path.
func RouteOf(path string) string {
	var g guess
	if !g.read(path) {
		return ""
	}
	return g.route(path)
}

// guess is a path's segments and which of them are ids.
type guess struct {
	segments
	p *Platform // whose credentials are known; nil has none of its own
	// idLens are the lengths of the ids that segments begin with, or 0.
	idLens [maxTemplateSegments]int
	any    bool
}

func (g *guess) read(path string) bool {
	if len(path) > maxGuessedPath || !g.split(path, maxTemplateSegments) {
		return false
	}
	// No credential spans segments, but one may show only when unescaped.
	suspect := g.odd || g.p.looksSecret(path)
	for i, segment := range g.list[:g.n] {
		if suspect && g.p.looksSecret(segment) {
			g.idLens[i] = len(segment)
		} else {
			g.idLens[i] = idLen(segment)
		}
		g.any = g.any || g.idLens[i] > 0
	}
	return true
}

func (g *guess) route(path string) string {
	if !g.any && !g.odd {
		if g.n > 0 {
			path = strings.TrimSuffix(path, "/")
		}
		return path
	}
	var route strings.Builder
	route.Grow(len(path))
	for i, segment := range g.list[:g.n] {
		route.WriteByte('/')
		if n := g.idLens[i]; n > 0 {
			route.WriteString(idParam)
			segment = segment[n:]
		}
		route.WriteString(segment)
	}
	return route.String()
}

func (g *guess) target() *Target {
	thing := g.thing(g.n)
	typ := g.typeBefore(thing)
	if typ == "" || isVersion(typ) {
		return nil
	}
	t := &Target{Type: typ, ID: g.id(thing)}
	if parent := g.thing(thing); g.typeBefore(parent) != "" {
		t.Parent = g.id(parent)
	}
	return t
}

// thing is the index of the last id before end, or negative.
func (g *guess) thing(end int) int {
	i := end - 1
	for i >= 0 && g.idLens[i] == 0 {
		i--
	}
	return i
}

// typeBefore is the last plain text before the segment at end, or empty.
func (g *guess) typeBefore(end int) string {
	for i := end - 1; i >= 0; i-- {
		if g.idLens[i] == 0 {
			return g.list[i]
		}
	}
	return ""
}

// id is the id at i, or empty if it may be a credential.
func (g *guess) id(i int) string {
	id := g.list[i][:g.idLens[i]]
	if g.p.looksSecret(id) {
		return ""
	}
	return id
}
