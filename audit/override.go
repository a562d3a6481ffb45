package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Override is what a site's own catalog says of an operation. A nil field says
// nothing: then the operation keeps what an earlier catalog says of it, and a
// new one has what the platform's rules read from its template.
type Override struct {
	Method, Template             string
	Code, Name                   *string
	Target                       *TargetRule
	Organization, Project        *string
	Secrets                      *[]string
	Changing, Secured, Sensitive *bool
	Capture                      *Capture
	Born                         *string
	Transfers, Offers            *bool
	// At is where it stands, for error messages.
	At string
}

// CheckTemplate says what is wrong with a template that NewCatalog would refuse.
func CheckTemplate(template string) error {
	_, err := parseTemplate(template)
	return err
}

// SameRoute is equal for two operations that no call could tell apart: of one
// method, and of templates that differ in the names of their parameters only.
func SameRoute(method, template string) string {
	var key strings.Builder
	key.WriteString(method)
	key.WriteByte(' ')
	for segment := range strings.SplitSeq(strings.TrimPrefix(template, "/"), "/") {
		if _, ok := paramName(segment); ok {
			segment = "{}"
		}
		key.WriteByte('/')
		key.WriteString(segment)
	}
	return key.String()
}

// WithRoutes is the platform with the routes of an API's description, read by
// the platform's rules, over those that it has. What a description does not say
// stays: Changing, Sensitive, Capture, Born, Transfers and Offers, and an id or a name that it has
// not; and what was a credential stays one.
func (p *Platform) WithRoutes(routes []Route) (*Platform, error) {
	read := p.Rules.read(routes)
	changes := make([]change, 0, len(read))
	for _, op := range read {
		changes = append(changes, func(old *Operation) (Operation, error) {
			if old == nil {
				return op, nil
			}
			was := old.renamed(op.Template)
			op.Code, op.Name = cmp.Or(op.Code, was.Code), cmp.Or(op.Name, was.Name)
			op.Changing = op.Changing || was.Changing
			op.Sensitive, op.Capture, op.Born = was.Sensitive, was.Capture, was.Born
			op.Transfers, op.Offers = was.Transfers, was.Offers
			op.Secrets = union(op.Secrets, was.Secrets)
			op.dropSecrets()
			return op, nil
		})
	}
	return p.changed(read, changes)
}

// WithOverrides is the platform with a site's own operations over those that it
// has.
func (p *Platform) WithOverrides(overrides []Override) (*Platform, error) {
	routes := make([]Route, 0, len(overrides))
	for _, o := range overrides {
		route := Route{Method: o.Method, Template: o.Template}
		if o.Code != nil {
			route.Code = *o.Code
		}
		routes = append(routes, route)
	}
	read := p.Rules.read(routes)
	changes := make([]change, 0, len(read))
	for i := range read {
		changes = append(changes, func(old *Operation) (Operation, error) {
			op := read[i]
			if old != nil {
				op = old.renamed(op.Template)
			}
			overrides[i].over(&op)
			// Alone, so that the error has the place of the one at fault.
			_, err := NewCatalog([]Operation{op})
			if err == nil {
				_, err = NewSelection(p, op.Capture)
			}
			if err != nil {
				return op, fmt.Errorf("%s: %w", overrides[i].At, err)
			}
			return op, nil
		})
	}
	return p.changed(read, changes)
}

// change makes an operation of the one that it overrides; nil is none.
type change func(old *Operation) (Operation, error)

func (p *Platform) changed(read []Operation, changes []change) (*Platform, error) {
	var merged []Operation
	if p.Catalog != nil {
		merged = slices.Clone(p.Catalog.operations)
	}
	at := make(map[string]int, len(merged)+len(read))
	for i := range merged {
		at[SameRoute(merged[i].Method, merged[i].Template)] = i
	}
	for i, change := range changes {
		key := SameRoute(read[i].Method, read[i].Template)
		j, known := at[key]
		if !known {
			j = len(merged)
			at[key] = j
			merged = append(merged, Operation{})
		}
		var old *Operation
		if known {
			old = &merged[j]
		}
		op, err := change(old)
		if err != nil {
			return nil, err
		}
		merged[j] = op
	}
	catalog, err := NewCatalog(merged)
	if err != nil {
		return nil, err
	}
	own := *p
	own.Catalog = catalog
	return &own, nil
}

// over writes what is said over an operation. What it only inherits gives way
// where it would name a credential; what is said itself does not, so that the
// contradiction is an error.
func (o *Override) over(op *Operation) {
	if o.Secrets != nil {
		op.Secrets = slices.Clone(*o.Secrets)
		op.dropSecrets()
	}
	set(&op.Code, o.Code)
	set(&op.Name, o.Name)
	set(&op.Target, o.Target)
	set(&op.Organization, o.Organization)
	set(&op.Project, o.Project)
	set(&op.Changing, o.Changing)
	set(&op.Secured, o.Secured)
	set(&op.Sensitive, o.Sensitive)
	set(&op.Capture, o.Capture)
	set(&op.Born, o.Born)
	set(&op.Transfers, o.Transfers)
	set(&op.Offers, o.Offers)
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// renamed is the operation under a template of the same shape, whose parameters
// may have other names.
func (op Operation) renamed(template string) Operation {
	if template == op.Template {
		op.Secrets = slices.Clone(op.Secrets)
		return op
	}
	names := make(map[string]string)
	now := strings.Split(template, "/")
	for i, segment := range strings.Split(op.Template, "/") {
		if name, ok := paramName(segment); ok {
			names[name], _ = paramName(now[i])
		}
	}
	op.Template = template
	op.Target.ID, op.Target.Parent = names[op.Target.ID], names[op.Target.Parent]
	op.Organization, op.Project = names[op.Organization], names[op.Project]
	secrets := make([]string, 0, len(op.Secrets))
	for _, name := range op.Secrets {
		secrets = append(secrets, names[name])
	}
	op.Secrets = secrets
	return op
}

// dropSecrets takes the credentials out of the fields that name what a call is
// done to.
func (op *Operation) dropSecrets() {
	for _, field := range []*string{&op.Target.ID, &op.Target.Parent, &op.Organization, &op.Project} {
		if slices.Contains(op.Secrets, *field) {
			*field = ""
		}
	}
}

func union(a, b []string) []string {
	all := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}
