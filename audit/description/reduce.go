package description

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/oasdiff/yaml"
)

// reduce gives the part of a description that a catalog needs, as OpenAPI 3 in
// JSON and without a fault that its reader would stop at: paths, methods, ids,
// summaries, security, parameters' names and servers. A whole description is
// mostly schemas, of which one with an odd number or a reference to another file
// would make a reader refuse all of it, after seconds and hundreds of megabytes.
func reduce(data []byte, w *warner) ([]byte, error) {
	data, err := asJSON(data)
	if err != nil {
		return nil, err
	}
	r := reducer{warner: w, doc: object(data)}
	if err := r.version(); err != nil {
		return nil, err
	}
	paths, err := r.paths()
	if err != nil {
		return nil, err
	}
	part := map[string]any{
		"openapi": "3.1.0", "info": map[string]string{"title": "-", "version": "-"},
		"paths": paths, "components": r.components,
		"servers": r.servers(r.doc["servers"]),
	}
	if base := text(r.doc["basePath"]); r.swagger && base != "" {
		part["servers"] = []any{map[string]string{"url": "/" + strings.TrimPrefix(base, "/")}}
	}
	return json.Marshal(part)
}

// asJSON tells JSON from YAML, and both from what is neither.
func asJSON(data []byte) ([]byte, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("reading %d bytes: a description may have %d MiB: leave out its schemas and examples", len(data), MaxBytes>>20)
	}
	data = bytes.TrimSpace(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
	switch {
	case len(data) == 0:
		return nil, errors.New("finding nothing: it is empty")
	case data[0] == '<':
		return nil, errors.New("reading it: it is HTML or XML, not OpenAPI: give the description itself, not the page that shows it")
	case bytes.HasPrefix(data, []byte("%PDF")) || bytes.IndexByte(data, 0) >= 0:
		return nil, errors.New("reading it: it is no text: give an OpenAPI description in JSON or YAML")
	case data[0] != '{' && len(data) > MaxYAML:
		return nil, fmt.Errorf("reading %d bytes of YAML: it may have %d MiB: give the description in JSON, or leave out its schemas and examples", len(data), MaxYAML>>20)
	case data[0] != '{':
		doc, err := yaml.YAMLToJSON(data)
		if err != nil {
			return nil, fmt.Errorf("reading it as YAML: %w: is it an OpenAPI description?", err)
		}
		return doc, nil
	}
	var raw json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		if e, ok := errors.AsType[*json.SyntaxError](err); ok {
			return nil, fmt.Errorf("reading it as JSON: line %d: %w", 1+bytes.Count(data[:min(int(e.Offset), len(data))], []byte("\n")), err)
		}
		return nil, fmt.Errorf("reading it as JSON: %w", err)
	}
	return data, nil
}

// reducer reads leniently: a field of another type than it should have is as
// good as absent.
type reducer struct {
	*warner
	doc        map[string]json.RawMessage
	components map[string]any
	swagger    bool
	// parameters and items are the components that a reference may name, and
	// paths all paths. What they hold is looked at once, however often it is
	// referred to.
	parameters, items map[string]json.RawMessage
	isParameter       map[string]bool
	isPath, isPart    map[string]bool
	operations        int
}

func (r *reducer) version() error {
	version := strings.Trim(string(r.doc["openapi"]), `"`)
	if version == "" {
		version = strings.Trim(string(r.doc["swagger"]), `"`)
		r.swagger = version != ""
	}
	switch {
	case version == "":
		return errors.New("finding neither openapi nor swagger in it: give an OpenAPI description")
	case r.swagger && version != "2" && !strings.HasPrefix(version, "2."):
		return fmt.Errorf("reading swagger %.20q: this version knows 2.0: convert it to OpenAPI 3", version)
	case !r.swagger && version != "3" && !strings.HasPrefix(version, "3."):
		return fmt.Errorf("reading openapi %.20q: this version knows 3: convert it", version)
	}
	if r.swagger {
		r.parameters = object(r.doc["parameters"])
		return nil
	}
	components := object(r.doc["components"])
	r.parameters, r.items = object(components["parameters"]), object(components["pathItems"])
	return nil
}

// paths reduces all paths, and the components that they may refer to.
func (r *reducer) paths() (map[string]any, error) {
	all := object(r.doc["paths"])
	r.isPath = make(map[string]bool, len(all))
	for path, raw := range all {
		r.isPath[path] = strings.HasPrefix(path, "/") && isObject(raw)
	}
	r.reduceComponents()
	paths := make(map[string]any)
	for _, path := range slices.Sorted(maps.Keys(all)) {
		if !r.isPath[path] {
			r.add("skipping %q: it is no path", path)
			continue
		}
		paths[path] = r.item(path, object(all[path]))
		if r.operations > MaxOperations || len(paths) > MaxOperations {
			return nil, tooMany(path)
		}
	}
	return paths, nil
}

func tooMany(path string) error {
	return fmt.Errorf("counting more than %d paths or operations, at %.100q: give each part of the API a catalog of its own", MaxOperations, path)
}

func (r *reducer) reduceComponents() {
	parameters, items := map[string]any{}, map[string]any{}
	r.components = map[string]any{"parameters": parameters, "pathItems": items}
	r.isParameter = make(map[string]bool)
	for name := range r.parameters {
		r.resolve(name, 0)
	}
	for name, raw := range r.parameters {
		if p := r.parameter(raw); p != nil && r.isParameter[name] {
			parameters[name] = p
		}
	}
	r.isPart = make(map[string]bool, len(r.items))
	for name, raw := range r.items {
		r.isPart[name] = isObject(raw)
	}
	for _, name := range slices.Sorted(maps.Keys(r.items)) {
		if r.isPart[name] {
			items[name] = r.item("the path item "+name, object(r.items[name]))
		}
	}
}

// resolve finds out whether a component ends in a parameter, or nowhere or
// round in a circle.
func (r *reducer) resolve(name string, depth int) bool {
	known, ok := r.isParameter[name]
	if ok || depth == deepestReference {
		return known
	}
	fields := object(r.parameters[name])
	if ref := text(fields["$ref"]); ref != "" {
		target, local := r.parameterName(ref)
		known = local && r.resolve(target, depth+1)
	} else {
		known = text(fields["name"]) != "" && text(fields["in"]) != ""
	}
	r.isParameter[name] = known
	return known
}

func (r *reducer) item(path string, item map[string]json.RawMessage) map[string]any {
	out := map[string]any{}
	if ref := text(item["$ref"]); ref != "" {
		if r.isItem(ref) {
			out["$ref"] = ref
		} else {
			r.add("skipping what %q refers to, %q: it is not in this document; bundle the description into one file", path, ref)
		}
	}
	for _, method := range methods {
		raw, ok := item[method]
		if !ok {
			continue
		}
		fields := object(raw)
		where := strings.ToUpper(method) + " " + path
		if fields == nil {
			r.add("skipping %s: it is no operation", where)
			continue
		}
		r.operations++
		out[method] = r.operation(where, fields)
	}
	r.setParameters(out, item["parameters"])
	if servers := r.servers(item["servers"]); len(servers) > 0 {
		out["servers"] = servers
	}
	return out
}

func (r *reducer) operation(where string, fields map[string]json.RawMessage) map[string]any {
	op := map[string]any{"responses": map[string]any{}, "summary": text(fields["summary"])}
	if id, ok := fields["operationId"]; ok {
		op["operationId"] = text(id)
		if text(id) == "" {
			r.add("skipping the id of %s: it is no text", where)
		}
	}
	r.setParameters(op, fields["parameters"])
	if servers := r.servers(fields["servers"]); len(servers) > 0 {
		op["servers"] = servers
	}
	// An operation's own list replaces the document's, even where it is empty.
	security, ok := fields["security"]
	if !ok {
		security, ok = r.doc["security"]
	}
	if ok {
		list, err := requirements(security)
		if err != nil {
			r.add("skipping the security of %s: %v", where, err)
		}
		op["security"] = list
	}
	return op
}

// requirements reads a list of requirements. What cannot be read requires nothing,
// since a requirement that is not there would vouch for credentials that nobody
// looked at.
func requirements(raw json.RawMessage) ([]map[string][]string, error) {
	reduced := []map[string][]string{}
	var requirements []map[string]json.RawMessage
	if err := json.Unmarshal(raw, &requirements); err != nil {
		return reduced, err
	}
	for _, requirement := range requirements {
		schemes := map[string][]string{}
		for name := range requirement {
			schemes[name] = []string{}
		}
		reduced = append(reduced, schemes)
	}
	return reduced, nil
}

func (r *reducer) setParameters(out map[string]any, raw json.RawMessage) {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return
	}
	var parameters []any
	for _, raw := range list {
		if p := r.parameter(raw); p != nil {
			parameters = append(parameters, p)
		}
	}
	if len(parameters) > 0 {
		out["parameters"] = parameters
	}
}

// deepestReference is how many references may lead to a parameter.
const deepestReference = 8

// parameter is nil for what is none, and for a reference to none.
func (r *reducer) parameter(raw json.RawMessage) map[string]string {
	fields := object(raw)
	if ref := text(fields["$ref"]); ref != "" {
		if name, ok := r.parameterName(ref); ok && r.isParameter[name] {
			return map[string]string{"$ref": "#/components/parameters/" + escapePointer(name)}
		}
		return nil
	}
	if name, in := text(fields["name"]), text(fields["in"]); name != "" && in != "" {
		return map[string]string{"name": name, "in": in}
	}
	return nil
}

// parameterName is the component that a reference names, if it names one.
func (r *reducer) parameterName(ref string) (string, bool) {
	place := "#/components/parameters/"
	if r.swagger {
		place = "#/parameters/"
	}
	name, ok := strings.CutPrefix(ref, place)
	return unescapePointer(name), ok
}

// isItem reports whether a reference names a path of this document.
func (r *reducer) isItem(ref string) bool {
	if name, ok := strings.CutPrefix(ref, "#/components/pathItems/"); ok {
		return r.isPart[unescapePointer(name)]
	}
	name, ok := strings.CutPrefix(ref, "#/paths/")
	return ok && r.isPath[unescapePointer(name)]
}

func (r *reducer) servers(raw json.RawMessage) []any {
	var list []json.RawMessage
	servers := []any{}
	if json.Unmarshal(raw, &list) != nil {
		return servers
	}
	for _, raw := range list {
		fields := object(raw)
		variables := map[string]any{}
		for name, raw := range object(fields["variables"]) {
			variables[name] = map[string]string{"default": text(object(raw)["default"])}
		}
		address := text(fields["url"])
		if strings.HasPrefix(address, "//") {
			address = "https:" + address // a host, not a path
		}
		if address != "" {
			servers = append(servers, map[string]any{"url": address, "variables": variables})
		}
	}
	return servers
}

// A reference is a JSON pointer in a URL's fragment.
func unescapePointer(step string) string {
	if plain, err := url.PathUnescape(step); err == nil {
		step = plain
	}
	return strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
}

func escapePointer(step string) string {
	return url.PathEscape(strings.NewReplacer("~", "~0", "/", "~1").Replace(step))
}

func isObject(raw json.RawMessage) bool { return bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) }

// object is nil for what is no object.
func object(raw json.RawMessage) map[string]json.RawMessage {
	var fields map[string]json.RawMessage
	if len(raw) == 0 || json.Unmarshal(raw, &fields) != nil {
		return nil
	}
	return fields
}

// text is empty for what is no text.
func text(raw json.RawMessage) string {
	var s string
	if len(raw) == 0 || json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}
