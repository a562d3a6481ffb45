package audit

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The target types that also fill an entry's organization and project.
const (
	typeOrganization = "organization"
	typeProject      = "project"
)

// Route is one row of an API's description.
type Route struct {
	Method   string
	Template string
	// Code is the operation's id, or empty.
	Code string
	// Name is what the description calls the operation, or empty.
	Name string
	// Secured says that the description requires a credential. False is also
	// unknown.
	Secured bool
}

// Rules say how an API's templates read. The zero value reads any API whose
// paths name collections: /things/{id} is a thing.
//
// A target follows from the whole template, left to right, and the last thing
// named wins:
//
//   - Plain text that Types names is a thing of that type; so is plain text
//     that some template continues with a parameter, its type being the
//     singular in snake case. A parameter right after it is the thing's id.
//   - The thing named before it is its parent.
//   - Any other plain text is a verb or a setting, and leaves the target be.
//   - A parameter that Types names, as in "integrations/{}", is a thing of
//     that type; the plain text before it then names no collection by itself.
//   - A parameter that ProjectParams names is a project wherever it stands
//     after a verb or a setting: /platform/auth/{ref}/config.
//   - A credential is nobody's id.
type Rules struct {
	// Types gives the type for a route that ends in the key. Keys are
	// segments without a slash at either end, parameters as {}; the longest
	// that fits counts. A type that the route has named before means that very
	// thing: under a project, "backups/undo": "project" is the project, and
	// "members/{}/roles/{}": "member" leaves the target with the member.
	Types map[string]string
	// ProjectParams are the names of parameters that always mean a project.
	ProjectParams []string
	// Identifiers are the ends of routes, written like the keys of Types,
	// whose last parameter is named like a credential and is a public id. An
	// end belongs here only if whoever learns the value can do nothing with it.
	Identifiers []string
	// Names are the names for people of operations whose ids say too little
	// or something else, by id. ActionName makes all others.
	Names map[string]string
	// Changing are the ids of operations that change something although their
	// method says that they only read.
	Changing []string
	// Unsecured are the ids of operations whose description requires a
	// credential that is not the caller's own: what begins an authorization, or
	// takes the client's secret in its body. That they succeed says nothing
	// about the credential in the header.
	Unsecured []string
}

// Operations applies the rules to all routes of an API at once. Malformed
// templates are left to NewCatalog. It fails if Changing, Unsecured or Names has
// an operation that is not there.
func (r Rules) Operations(routes []Route) ([]Operation, error) {
	codes := make(map[string]bool, len(routes))
	for _, route := range routes {
		codes[route.Code] = true
	}
	for _, code := range r.Changing {
		if !codes[code] {
			return nil, fmt.Errorf("marking %s as changing: there is no such operation; correct its id", code)
		}
	}
	for _, code := range r.Unsecured {
		if !codes[code] {
			return nil, fmt.Errorf("marking %s as unsecured: there is no such operation; correct its id", code)
		}
	}
	for _, code := range slices.Sorted(maps.Keys(r.Names)) {
		if !codes[code] {
			return nil, fmt.Errorf("naming %s %q: there is no such operation; correct its id", code, r.Names[code])
		}
	}
	return r.read(routes), nil
}

// read applies the rules to routes that may be only some of the API's.
func (r Rules) read(routes []Route) []Operation {
	collections := r.collectionsOf(routes)
	operations := make([]Operation, 0, len(routes))
	for _, route := range routes {
		op := Operation{
			Method:   route.Method,
			Template: route.Template,
			Code:     route.Code,
			Name:     cmp.Or(r.Names[route.Code], route.Name, ActionName(route.Code)),
			Changing: route.Code != "" && slices.Contains(r.Changing, route.Code),
			Secured:  route.Secured && !slices.Contains(r.Unsecured, route.Code),
		}
		r.readTemplate(&op, collections)
		operations = append(operations, op)
	}
	return operations
}

// Why says for people which rule gives an operation its target.
func (p *Platform) Why(op *Operation) string {
	if p.Name == "supabase" && strings.HasPrefix(op.Template, "/platform/") {
		return supabasePlatformRules.why(op)
	}
	return p.Rules.why(op)
}

// why finds the last thing that the template names.
func (r Rules) why(op *Operation) string {
	if op.Target.Type == "" {
		return "nothing in the template is a collection or named by a rule"
	}
	segments := strings.Split(strings.TrimPrefix(op.Template, "/"), "/")
	keys := slices.Clone(segments)
	for i, segment := range segments {
		if _, ok := paramName(segment); ok {
			keys[i] = "{}"
		}
	}
	for end := len(segments); end > 0; end-- {
		last := segments[end-1]
		name, isParam := paramName(last)
		for start := range end {
			key := strings.Join(keys[start:end], "/")
			if r.Types[key] == op.Target.Type {
				return fmt.Sprintf("the platform's rule %q: %q", key, op.Target.Type)
			}
		}
		switch {
		case isParam && op.Target.Type == typeProject && slices.Contains(r.ProjectParams, name):
			return fmt.Sprintf("the platform's rule that {%s} is a project", name)
		case !isParam && singular(last) == op.Target.Type:
			return fmt.Sprintf("segment %d, %q, which a parameter follows in some route", end, last)
		}
	}
	return "a catalog says so"
}

// readTemplate fills in what follows from the operation's template.
func (r Rules) readTemplate(op *Operation, collections map[string]bool) {
	var named []TargetRule // every thing on the way, outermost first
	prefix := ""           // the template so far, parameters as {}
	awaitsID := false      // the segment before began a thing
	for segment := range strings.SplitSeq(strings.TrimPrefix(op.Template, "/"), "/") {
		name, isParam := paramName(segment)
		if !isParam {
			prefix += "/" + segment
			named, awaitsID = r.nameThing(named, prefix, collections[prefix])
			continue
		}
		prefix += "/{}"
		switch typ := r.typeAt(prefix); {
		case isCredential(name) && !r.isIdentifier(prefix):
			op.Secrets = append(op.Secrets, name)
		case typ != "":
			named = nameParam(named, typ, name)
		case awaitsID:
			named[len(named)-1].ID = name
		case slices.Contains(r.ProjectParams, name):
			named = append(named, TargetRule{Type: typeProject, ID: name})
		}
		awaitsID = false
	}
	for _, thing := range named {
		switch thing.Type {
		case typeOrganization:
			op.Organization = thing.ID
		case typeProject:
			op.Project = thing.ID
		}
	}
	if len(named) > 0 {
		op.Target = named[len(named)-1]
	}
}

// nameThing adds what the end of prefix names, and reports whether that is a
// thing whose id may follow.
func (r Rules) nameThing(named []TargetRule, prefix string, isCollection bool) ([]TargetRule, bool) {
	thing := TargetRule{Type: r.typeAt(prefix)}
	if thing.Type == "" {
		if !isCollection {
			return named, false
		}
		thing.Type = singular(prefix[strings.LastIndexByte(prefix, '/')+1:])
	} else if !isCollection {
		same := func(t TargetRule) bool { return t.Type == thing.Type }
		if i := slices.IndexFunc(named, same); i >= 0 {
			return append(named, named[i]), false
		}
	}
	thing.Parent = parentAfter(named)
	return append(named, thing), true
}

// nameParam adds the thing that a parameter is by itself. One of its type that
// has no id yet is the collection that it stands in, not the thing.
func nameParam(named []TargetRule, typ, param string) []TargetRule {
	same := func(t TargetRule) bool { return t.Type == typ && t.ID != "" }
	if i := slices.IndexFunc(named, same); i >= 0 {
		return append(named, named[i])
	}
	return append(named, TargetRule{Type: typ, ID: param, Parent: parentAfter(named)})
}

// parentAfter is the parent of what follows the things named so far.
func parentAfter(named []TargetRule) string {
	if len(named) == 0 {
		return ""
	}
	last := named[len(named)-1]
	return cmp.Or(last.ID, last.Parent)
}

func (r Rules) isIdentifier(prefix string) bool {
	return slices.ContainsFunc(r.Identifiers, func(end string) bool { return strings.HasSuffix(prefix, "/"+end) })
}

// typeAt is the type of the longest key that prefix ends in, or empty.
func (r Rules) typeAt(prefix string) string {
	for prefix != "" {
		prefix = prefix[1:] // its slash
		if typ := r.Types[prefix]; typ != "" {
			return typ
		}
		i := strings.IndexByte(prefix, '/')
		if i < 0 {
			break
		}
		prefix = prefix[i:]
	}
	return ""
}

// collectionsOf finds the plain text that some template continues with a
// parameter. The templates are cut there, with their parameters as {}. A
// parameter that is a thing by itself does not count: it may follow anything.
func (r Rules) collectionsOf(routes []Route) map[string]bool {
	collections := make(map[string]bool)
	for _, route := range routes {
		prefix, afterText := "", false
		for segment := range strings.SplitSeq(strings.TrimPrefix(route.Template, "/"), "/") {
			name, isParam := paramName(segment)
			if !isParam {
				prefix, afterText = prefix+"/"+segment, true
				continue
			}
			byItself := slices.Contains(r.ProjectParams, name) || r.typeAt(prefix+"/{}") != ""
			if afterText && !byItself {
				collections[prefix] = true
			}
			prefix, afterText = prefix+"/{}", false
		}
	}
	return collections
}

func paramName(segment string) (string, bool) {
	if !strings.HasPrefix(segment, "{") || !strings.HasSuffix(segment, "}") {
		return "", false
	}
	return segment[1 : len(segment)-1], true
}

// credentialNames end the names of parameters whose values are credentials.
// To take a public value for a credential costs a target its id; the opposite
// mistake puts a credential on disk.
var credentialNames = []string{
	"token", "secret", "password", "passphrase", "code", "otp", "jwt", "signature",
	"apikey", "accesskey", "privatekey", "secretkey", "servicekey",
}

// isCredential judges a parameter by its name: token, invite_token, inviteCode.
func isCredential(name string) bool {
	name = strings.ToLower(strings.Join(splitWords(name), ""))
	return slices.ContainsFunc(credentialNames, func(end string) bool { return strings.HasSuffix(name, end) })
}

// singular is the type of a collection's things: api-keys are api_key.
func singular(collection string) string {
	word := strings.ToLower(strings.Join(splitWords(collection), "_"))
	for _, end := range []struct{ plural, singular string }{
		{"ies", "y"},
		{"sses", "ss"},
		{"shes", "sh"},
		{"ches", "ch"},
		{"xes", "x"},
		{"uses", "us"},
		{"ss", "ss"},
		{"us", "us"},
		{"is", "is"},
		{"s", ""},
	} {
		if stem, ok := strings.CutSuffix(word, end.plural); ok && stem != "" {
			return stem + end.singular
		}
	}
	return word
}
