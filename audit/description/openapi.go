// Package description reads what others say about an API: its OpenAPI
// description, and a site's own list of operations. Both become what a catalog
// is made of. It reads bytes: it opens no file and asks no network, whatever a
// description refers to.
package description

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

const (
	// MaxBytes is the size of the largest description that is read.
	MaxBytes = 16 << 20
	// MaxYAML is the same for YAML, whose reader takes a hundred and more times a
	// hostile document's size in memory.
	MaxYAML = 8 << 20
	// MaxOperations bounds a catalog. The largest public APIs have a few
	// thousand.
	MaxOperations = 20_000

	maxName     = 120 // of an operation, in characters
	maxCode     = 256 // of an operation, in bytes
	maxTemplate = 1024
)

// methods are the keys of a path that stand for operations, in the order in
// which they are read; others hold parameters, servers and extensions.
var methods = []string{"get", "put", "post", "delete", "options", "head", "patch", "trace", "query"}

// OpenAPI reads the routes of a description in OpenAPI 3 or Swagger 2.0, in
// JSON or YAML, in the order of their paths. What it cannot use it skips, with a
// warning: a description has more faults than readers. It fails where nothing
// could be made of it.
//
// A route is what a call's path has, so the path of the first server is before
// that of the operation. A query in a path is cut off. Of two operations that no
// path can tell apart the first stays, and so does the first of two codes.
func OpenAPI(data []byte) (_ []audit.Route, warnings []string, err error) {
	defer func() {
		// A parser's fault must not end the server that it is loaded into.
		if r := recover(); r != nil {
			err = fmt.Errorf("reading the description: the parser failed: %v: simplify it, or write a catalog file", r)
		}
	}()
	w := new(warner)
	part, err := reduce(data, w)
	if err != nil {
		return nil, nil, err
	}
	loader := openapi3.NewLoader()
	loader.ReadFromURIFunc = func(_ *openapi3.Loader, u *url.URL) ([]byte, error) {
		return nil, fmt.Errorf("following %q: a description must be one document", u)
	}
	doc, err := loader.LoadFromData(part)
	if err != nil {
		return nil, nil, fmt.Errorf("reading its paths: %w", err)
	}
	all, err := routesOf(doc, w)
	if err != nil {
		return nil, nil, err
	}
	routes := Distinct(all, w.add)
	if len(routes) == 0 {
		return nil, w.lines(), errors.New("finding no operations: give a description whose paths have methods")
	}
	dropRepeatedCodes(routes, w)
	return routes, w.lines(), nil
}

func routesOf(doc *openapi3.T, w *warner) ([]audit.Route, error) {
	var routes []audit.Route
	items := doc.Paths.Map()
	for _, path := range slices.Sorted(maps.Keys(items)) {
		item := items[path]
		operations := item.Operations()
		if item.Ref != "" && len(operations) == 0 {
			w.add("skipping %q: its reference %q leads back to itself or to nothing", path, item.Ref)
		}
		template, query, _ := strings.Cut(path, "?")
		if query != "" {
			w.add("dropping the query of %s", path)
		}
		for _, method := range methods {
			op := operations[strings.ToUpper(method)]
			if op == nil {
				continue
			}
			route := audit.Route{Method: strings.ToUpper(method), Template: basePath(doc, item, op, w) + template}
			if readRoute(&route, op, w) {
				checkParameters(route, item, op, w)
				routes = append(routes, route)
			}
		}
		// References can make many of few.
		if len(routes) > MaxOperations {
			return nil, tooMany(path)
		}
	}
	return routes, nil
}

// readRoute fills in a route, and reports whether a catalog can have it.
func readRoute(route *audit.Route, op *openapi3.Operation, w *warner) bool {
	if route.Template != "/" {
		route.Template = strings.TrimSuffix(route.Template, "/")
	}
	if len(route.Template) > maxTemplate {
		w.add("skipping %s %.100s…: its path is longer than %d bytes", route.Method, route.Template, maxTemplate)
		return false
	}
	if err := audit.CheckTemplate(route.Template); err != nil {
		w.add("skipping %s %s: %v", route.Method, route.Template, err)
		return false
	}
	route.Code, route.Name, route.Secured = op.OperationID, oneLine(op.Summary), isSecured(op)
	if len(route.Code) > maxCode || strings.ContainsFunc(route.Code, unicode.IsControl) {
		w.add("skipping the operationId of %s %s: it is longer than %d bytes or has a control character", route.Method, route.Template, maxCode)
		route.Code = ""
	}
	return true
}

// basePath is the path of the first server, without a slash at its end.
func basePath(doc *openapi3.T, item *openapi3.PathItem, op *openapi3.Operation, w *warner) string {
	servers := doc.Servers
	if len(item.Servers) > 0 {
		servers = item.Servers
	}
	if op.Servers != nil && len(*op.Servers) > 0 {
		servers = *op.Servers
	}
	if len(servers) == 0 {
		return ""
	}
	if url := servers[0].URL; !strings.Contains(url, "://") && !strings.HasPrefix(url, "/") && !strings.HasPrefix(url, "{") {
		return "" // relative to where the description was found, which says nothing
	}
	base, err := servers.BasePath()
	if err != nil {
		w.once("dropping the path of the server %q: it is no URL", servers[0].URL)
		return ""
	}
	return strings.TrimRight(base, "/")
}

// isSecured says whether a call needs a credential. It needs to meet only one
// of the requirements, so the empty one makes all the others optional.
func isSecured(op *openapi3.Operation) bool {
	isEmpty := func(r openapi3.SecurityRequirement) bool { return len(r) == 0 }
	return op.Security != nil && len(*op.Security) > 0 && !slices.ContainsFunc(*op.Security, isEmpty)
}

// checkParameters finds the parameters that the path should have and has not:
// most often a typing error in the one or the other.
func checkParameters(route audit.Route, item *openapi3.PathItem, op *openapi3.Operation, w *warner) {
	for _, ref := range slices.Concat(item.Parameters, op.Parameters) {
		if ref == nil || ref.Value == nil || ref.Value.In != openapi3.ParameterInPath {
			continue
		}
		if name := ref.Value.Name; !strings.Contains(route.Template, "{"+name+"}") {
			w.add("reading %s %s: the parameter %q is said to be in the path and is not there", route.Method, route.Template, name)
		}
	}
}

// Distinct keeps the first route of those that no call's method and path could
// tell apart. They differ by their query, which a catalog does not see, or by
// their parameters' names: the one that stays requires a credential only if all
// of them do.
func Distinct(all []audit.Route, warn func(format string, args ...any)) []audit.Route {
	seen := make(map[string]int, len(all))
	routes := make([]audit.Route, 0, len(all))
	for _, route := range all {
		key := audit.SameRoute(route.Method, route.Template)
		i, ok := seen[key]
		if !ok {
			seen[key] = len(routes)
			routes = append(routes, route)
			continue
		}
		routes[i].Secured = routes[i].Secured && route.Secured
		if first := routes[i].Template; first != route.Template {
			warn("skipping %s %s: no path could tell it from %s", route.Method, route.Template, first)
		} else {
			warn("skipping the second %s %s", route.Method, route.Template)
		}
	}
	return routes
}

func dropRepeatedCodes(routes []audit.Route, w *warner) {
	seen := make(map[string]*audit.Route, len(routes))
	for i := range routes {
		route := &routes[i]
		if route.Code == "" {
			continue
		}
		if first := seen[route.Code]; first != nil {
			w.add("dropping the operationId %q of %s %s: %s %s has it already", route.Code, route.Method, route.Template, first.Method, first.Template)
			if route.Name == "" {
				route.Name = oneLine(audit.ActionName(route.Code))
			}
			route.Code = ""
			continue
		}
		seen[route.Code] = route
	}
}

// oneLine bounds a text for people, which stands in entries and on terminals.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "�"), func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r)
	}), " ")
	n := 0
	for i := range s {
		if n++; n == maxName {
			if len(s[i:]) > len(string([]rune(s[i:])[:1])) {
				return strings.TrimSpace(s[:i]) + "…"
			}
			break
		}
	}
	return s
}

// warner gathers warnings. A hostile description cannot make it hold more than
// a page of them.
type warner struct {
	list []string
	more int
	seen map[string]bool
}

const (
	maxWarnings = 1000
	maxWarning  = 300
)

func (w *warner) add(format string, args ...any) {
	if len(w.list) == maxWarnings {
		w.more++
		return
	}
	line := fmt.Sprintf(format, args...)
	if len(line) > maxWarning {
		line = strings.ToValidUTF8(line[:maxWarning], "") + "…"
	}
	w.list = append(w.list, line)
}

// once is add for what concerns many operations alike.
func (w *warner) once(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if w.seen[line] {
		return
	}
	if w.seen == nil {
		w.seen = make(map[string]bool)
	}
	w.seen[line] = true
	w.add("%s", line)
}

func (w *warner) lines() []string {
	if w.more > 0 {
		return append(w.list, fmt.Sprintf("… and %d more", w.more))
	}
	return w.list
}
