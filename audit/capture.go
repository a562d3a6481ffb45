package audit

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Capture is an allow-list: what of a call is recorded beside its metadata.
// Everything that it does not name stays out of the entry.
//
// Body and Response hold paths from the root of a body: names joined by dots,
// * for each element of a list, and a backslash before a dot, a star, a colon
// or a backslash that belongs to a name. A path to an object or a list takes
// all of it. Query and Header hold names. What ends in :sql leads to a statement,
// which is recorded with ? for each of its literals.
//
// In a form a path names a field, or what is in a field that holds JSON.
type Capture struct {
	Body, Query, Header, Response []string
}

// IsZero reports whether it names nothing.
func (c *Capture) IsZero() bool {
	return len(c.Body) == 0 && len(c.Query) == 0 && len(c.Header) == 0 && len(c.Response) == 0
}

// checkLengths bounds each list by itself, so that the platform's own leave a
// site as much room as it has without them.
func (c *Capture) checkLengths() error {
	for _, list := range []struct {
		kind  string
		names []string
	}{{"body", c.Body}, {"query", c.Query}, {"header", c.Header}, {"response", c.Response}} {
		if n := len(list.names); n > maxCapturePaths {
			return fmt.Errorf("selecting %d names of the %s: at most %d are possible; drop some, or name the object that holds them", n, list.kind, maxCapturePaths)
		}
	}
	return nil
}

// Bounds of an allow-list.
const (
	maxPathNames    = 8
	maxCapturePaths = 64
	maxCaptureName  = 128
)

const (
	// wordsMember holds, in what was captured, the words for what was not. No
	// allow-list may name it, so that nobody can send one.
	wordsMember = "_capture"
	sqlSuffix   = ":sql"
)

// Selection is several allow-lists joined. It never changes and is safe for
// concurrent use. A nil Selection selects nothing.
type Selection struct {
	masks          masker
	body, response *selected
	query, header  map[string]*selected
}

// selected is one position in a body: what is wanted of the value there. A nil
// one wants nothing of it.
type selected struct {
	names map[string]*selected
	each  *selected
	// whole says that all of it is wanted, sql that its strings are statements.
	whole, sql bool
}

// below is what a whole value's parts are, if no path says more of them.
func (n *selected) below() *selected {
	switch {
	case !n.whole:
		return nil
	case n.sql:
		return wholeSQL
	}
	return wholeValue
}

var (
	wholeValue = &selected{whole: true}
	wholeSQL   = &selected{whole: true, sql: true}
)

// member finds what is wanted of a member, and the path's own spelling of its
// name. Another spelling is taken for it, since some APIs read names without
// looking at case.
func (n *selected) member(name string) (own string, m *selected) {
	if m := n.names[name]; m != nil {
		return name, m
	}
	for own, m := range n.names {
		if strings.EqualFold(own, name) {
			return own, m
		}
	}
	return "", n.below()
}

func (n *selected) element() *selected {
	if n.each != nil {
		return n.each
	}
	return n.below()
}

// NewSelection joins allow-lists. It fails, naming the path, if one cannot be
// read or names what must not be recorded. p knows the site's own credentials,
// and may be nil.
func NewSelection(p *Platform, captures ...Capture) (*Selection, error) {
	s := &Selection{masks: masker{p: p}}
	var body, response, query, header []string
	for i := range captures {
		c := &captures[i]
		if err := c.checkLengths(); err != nil {
			return nil, err
		}
		body, response = append(body, c.Body...), append(response, c.Response...)
		query = append(query, c.Query...)
		for _, name := range c.Header {
			header = append(header, http.CanonicalHeaderKey(name))
		}
	}
	var err error
	if s.body, err = selectPaths("body", body); err != nil {
		return nil, err
	}
	if s.response, err = selectPaths("response", response); err != nil {
		return nil, err
	}
	if s.query, err = selectNames("query", query); err != nil {
		return nil, err
	}
	if s.header, err = selectNames("header", header); err != nil {
		return nil, err
	}
	for name := range s.header {
		if carriesCredential(name) {
			return nil, fmt.Errorf("selecting header %s: it carries a credential, which is never recorded; drop it, its hash is in actor.token_hash", name)
		}
	}
	return s, nil
}

// Check fails if the allow-list names a place where the site expects a
// credential.
func (s *Selection) Check(places ...Place) error {
	if s == nil {
		return nil
	}
	for _, place := range places {
		if place.Kind == PlaceHeader && s.header[http.CanonicalHeaderKey(place.Name)] != nil ||
			place.Kind == PlaceQuery && s.query[place.Name] != nil {
			return fmt.Errorf("selecting %s %s: the site says that a credential stands there, which is never recorded; drop it", place.Kind, place.Name)
		}
	}
	return nil
}

// credentialHeaders carry credentials under names that do not say so.
var credentialHeaders = []string{
	"Apikey", "Authentication-Info", "Cookie", "Cookie2", "Sec-Websocket-Protocol", "Set-Cookie", "Set-Cookie2",
	"X-Amz-Signature", "X-Auth", "X-Client-Cert", "X-Forwarded-Client-Cert",
}

func carriesCredential(header string) bool {
	return slices.Contains(credentialHeaders, header) || kindOfName(header) == nameSecret
}

func selectNames(kind string, names []string) (map[string]*selected, error) {
	slices.Sort(names)
	names = slices.Compact(names)
	wanted := make(map[string]*selected, len(names))
	for _, name := range names {
		plain, sql := strings.CutSuffix(name, sqlSuffix)
		if err := checkName(plain); err != nil {
			return nil, fmt.Errorf("selecting %s %q: %w", kind, name, err)
		}
		wanted[plain] = wholeValue
		if sql {
			wanted[plain] = wholeSQL
		}
	}
	return wanted, nil
}

func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("finding no name: write one")
	case name == wordsMember:
		return fmt.Errorf("finding a name that the entry uses itself: drop it")
	case len(name) > maxCaptureName:
		return fmt.Errorf("counting %d bytes in a name: at most %d are possible", len(name), maxCaptureName)
	}
	return nil
}

func selectPaths(kind string, paths []string) (*selected, error) {
	slices.Sort(paths)
	paths = slices.Compact(paths)
	if len(paths) == 0 {
		return nil, nil
	}
	root := new(selected)
	for _, path := range paths {
		if err := root.add(path); err != nil {
			return nil, fmt.Errorf("selecting %s %q: %w", kind, path, err)
		}
	}
	return root, nil
}

func (n *selected) add(path string) error {
	names, sql, err := parsePath(path)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name.each {
			if n.each == nil {
				n.each = new(selected)
			}
			n = n.each
			continue
		}
		if n.names == nil {
			n.names = make(map[string]*selected)
		}
		if n.names[name.text] == nil {
			n.names[name.text] = new(selected)
		}
		n = n.names[name.text]
	}
	n.whole, n.sql = true, n.sql || sql
	return nil
}

type pathName struct {
	text string
	each bool
}

// parsePath reads a path of an allow-list.
func parsePath(path string) (names []pathName, sql bool, err error) {
	if rest, ok := strings.CutSuffix(path, sqlSuffix); ok && !strings.HasSuffix(rest, `\`) {
		path, sql = rest, true
	}
	for more := true; more; {
		var raw, text string
		raw, text, path, more, err = cutName(path)
		if err != nil {
			return nil, false, err
		}
		name := pathName{text: text, each: raw == "*"}
		if err := checkName(text); err != nil {
			return nil, false, fmt.Errorf("%w: a path is names joined by single dots, as in user.roles.*", err)
		}
		if !name.each && strings.Contains(strings.ReplaceAll(raw, `\*`, ""), "*") {
			return nil, false, fmt.Errorf(`finding a star within %q: * stands alone for each element of a list; write \* if it belongs to the name`, raw)
		}
		names = append(names, name)
	}
	if len(names) > maxPathNames {
		return nil, false, fmt.Errorf("counting %d names: at most %d are possible; name the object that holds it", len(names), maxPathNames)
	}
	return names, sql, nil
}

// cutName takes the first name off a path, as it is written and as it is meant.
func cutName(path string) (raw, text, rest string, more bool, err error) {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		switch {
		case path[i] == '.':
			return path[:i], b.String(), path[i+1:], true, nil
		case path[i] != '\\':
			b.WriteByte(path[i])
		case i+1 < len(path) && strings.IndexByte(`.*:\`, path[i+1]) >= 0:
			i++
			b.WriteByte(path[i])
		default:
			return "", "", "", false, fmt.Errorf(`finding a backslash before nothing that needs one: write \\ if it belongs to the name`)
		}
	}
	return path, b.String(), "", false, nil
}

// Body reports whether anything of a call's body is selected.
func (s *Selection) Body() bool { return s != nil && s.body != nil }

// Response reports whether anything of an answer's body is selected.
func (s *Selection) Response() bool { return s != nil && s.response != nil }

// Bounds of what a query, a header or a field that is sent repeatedly gives.
const (
	maxCaptureValues = 8
	maxCaptureQuery  = 64 << 10
)

// Query gives the selected parameters of a raw query: a string, or a list of
// them where one is repeated. Nil is none.
func (s *Selection) Query(rawQuery string) map[string]any {
	if s == nil || len(s.query) == 0 || rawQuery == "" {
		return nil
	}
	c := newCaptured(s.masks)
	if len(rawQuery) > maxCaptureQuery {
		rawQuery = rawQuery[:strings.LastIndexByte(rawQuery[:maxCaptureQuery], '&')+1]
		c.say(wordTruncated)
	}
	c.pairs(rawQuery, func(name string) *selected { return s.query[name] })
	return c.object()
}

// Header gives the selected headers, as Query does parameters. get gives all
// values of the header with a canonical name.
func (s *Selection) Header(get func(name string) []string) map[string]any {
	if s == nil || len(s.header) == 0 {
		return nil
	}
	c := newCaptured(s.masks)
	for _, name := range slices.Sorted(maps.Keys(s.header)) {
		for _, value := range get(name) {
			c.field(name, value, s.header[name])
		}
	}
	return c.object()
}

// pairs takes the selected ones of an URL-encoded form.
func (c *captured) pairs(form string, find func(name string) *selected) {
	for pair := range strings.SplitSeq(form, "&") {
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil || name == "" {
			continue // no name of an allow-list
		}
		n := find(name)
		if n == nil {
			continue
		}
		if plain, err := url.QueryUnescape(value); err == nil {
			value = plain
		} else {
			c.say(wordMalformed)
		}
		c.field(name, value, n)
	}
}
