// Package confdoc makes the configuration reference, docs/configuration.md, of the source:
// of the doc comments of the structs that Caddy loads, and of the syntax that stands above
// what reads a Caddyfile.
//
// A comment says what a field is, its unit and its bounds, and states its default in a
// sentence that begins with "Default:", or has the sentence "Required.". What the field is
// in a Caddyfile is the line of the syntax block that begins with its JSON name, or that
// name in the singular; where no line does, the comment ends with one that begins with
// "Caddyfile:", which "none" may follow.
package confdoc

import (
	"errors"
	"fmt"
	"go/ast"
	"slices"
	"strings"
)

// Module is one that Caddy loads.
type Module struct {
	// ID is the module's, as in audit_log.stores.file.
	ID string
	// Syntax is its Caddyfile, empty if it has none of its own.
	Syntax string
	*Struct
}

// Struct is an object of the JSON configuration.
type Struct struct {
	// Package and Name are those of the Go type.
	Package, Name string
	// Doc is its comment, without the syntax of a Caddyfile.
	Doc string
	// Fields are in the order of the source, those of embedded structs in their places.
	Fields []Field
}

// Field is one member of such an object.
type Field struct {
	JSON string
	// Type is what JSON has there.
	Type string
	// Of is what an object, or each of several, is made of; nil for other values.
	Of *Struct
	// Form is its line in a Caddyfile; empty if it has none.
	Form string
	// Default is "required" for what has none.
	Default string
	Meaning string
}

// modules are where to look, below the repository's root.
var modules = []string{"caddymodule", "caddymodule/*", "forwarder/stores/*"}

// syntaxOf names the function that reads the Caddyfile of a module, if it is not the method
// UnmarshalCaddyfile.
var syntaxOf = map[string]string{"App": "parseGlobal", "Handler": "parseDirective", "Viewer": "parseViewer"}

// Read reads all modules below the repository's root. The error lists every field that lacks
// something, and every line of a syntax that is of no field.
func Read(root string) ([]*Module, error) {
	s, err := newSource(root)
	if err != nil {
		return nil, err
	}
	var all []*Module
	for _, pattern := range modules {
		dirs, err := s.glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, dir := range dirs {
			p, err := s.load(dir)
			if err != nil {
				return nil, err
			}
			for _, m := range p.modules {
				module, err := s.module(p, m)
				if err != nil {
					return nil, err
				}
				all = append(all, module)
			}
		}
	}
	return all, errors.Join(s.problems...)
}

func (s *source) module(p *pkg, m moduleType) (*Module, error) {
	name := syntaxOf[m.name]
	if name == "" {
		name = m.name + ".UnmarshalCaddyfile"
	}
	made := &Module{ID: m.id, Syntax: syntaxIn(p.funcs[name])}
	of, err := s.structOf(p, p.types[m.name], parseSyntax(made.Syntax))
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", m.id, err)
	}
	made.Struct = of
	return made, nil
}

// structOf reads a struct whose options are the children of a node; nil if a Caddyfile
// does not have them.
func (s *source) structOf(p *pkg, t *typeDecl, scope *node) (*Struct, error) {
	key := structKey{p.path, t.spec.Name.Name}
	if made := s.structs[key]; made != nil {
		return made, nil
	}
	of, ok := t.spec.Type.(*ast.StructType)
	if !ok {
		return nil, fmt.Errorf("%s.%s is no struct", p.path, t.spec.Name.Name)
	}
	made := &Struct{Package: p.path, Name: t.spec.Name.Name}
	made.Doc, _, _ = strings.Cut(t.doc, "Syntax:\n")
	s.structs[key] = made
	if own := p.ownSyntax(made.Name); own != nil {
		scope = own
	}
	if err := s.fields(made, p, t, of, scope); err != nil {
		return nil, err
	}
	made.Doc = withJSONNames(made.Doc, s.goNames[made])
	for i := range made.Fields {
		f := &made.Fields[i]
		f.Meaning, f.Default = withJSONNames(f.Meaning, s.goNames[made]), withJSONNames(f.Default, s.goNames[made])
	}
	if scope != nil {
		for _, n := range scope.unclaimed() {
			s.unclaimed(p, made.Name, n)
		}
	}
	return made, nil
}

func (s *source) fields(made *Struct, p *pkg, t *typeDecl, of *ast.StructType, scope *node) error {
	for _, f := range of.Fields.List {
		if len(f.Names) == 0 {
			if err := s.embedded(made, p, t, f, scope); err != nil {
				return err
			}
			continue
		}
		for _, name := range f.Names {
			json := jsonName(f.Tag)
			if !name.IsExported() || json == "-" {
				continue
			}
			if err := s.field(made, p, t, f, name.Name, json, scope); err != nil {
				return err
			}
		}
	}
	return nil
}

// embedded adds the fields of an embedded struct.
func (s *source) embedded(made *Struct, p *pkg, t *typeDecl, f *ast.Field, scope *node) error {
	in, of, err := s.named(p, t, f.Type)
	if err != nil || of == nil {
		return err
	}
	fields, ok := of.spec.Type.(*ast.StructType)
	if !ok {
		return nil
	}
	own := in.ownSyntax(of.spec.Name.Name)
	if own == nil {
		return s.fields(made, in, of, fields, scope)
	}
	if scope != nil {
		for _, c := range scope.children { // which repeats what is said there
			c.claimed = c.claimed || slices.ContainsFunc(own.children, func(n *node) bool { return n.line == c.line })
		}
	}
	err = s.fields(made, in, of, fields, own)
	for _, n := range own.unclaimed() {
		s.unclaimed(in, of.spec.Name.Name, n)
	}
	return err
}

func (s *source) unclaimed(p *pkg, name string, n *node) {
	s.problem("%s.%s: the line %q of its syntax is of no field: say in the field's comment that it is, as in: Caddyfile: %s", p.path, name, n.line, n.line)
}

func (s *source) field(made *Struct, p *pkg, t *typeDecl, f *ast.Field, name, json string, scope *node) error {
	where := fmt.Sprintf("%s: %s.%s", s.fset.Position(f.Pos()), made.Name, name)
	c, err := parseComment(f.Doc.Text())
	switch {
	case json == "":
		s.problem("%s has no JSON name: give it a tag", where)
	case err != nil:
		s.problem("%s: %v", where, err)
	}
	s.goNames[made] = append(s.goNames[made], [2]string{name, json})
	field := Field{JSON: json, Default: c.byDefault, Meaning: c.meaning}
	var n *node
	switch {
	case c.form == "none":
	case c.form != "":
		field.Form = c.form
		if n = scope.claim(c.form); n == nil && scope != nil {
			s.problem("%s: its syntax has no line %q", where, c.form)
		}
	case scope == nil:
	default:
		if n = scope.option(json); n == nil {
			s.problem("%s: no line of the syntax begins with %s: end the comment with one that says what it is in a Caddyfile, as in: Caddyfile: %s <value>", where, json, json)
			break
		}
		field.Form = n.line
	}
	kind, of, err := s.kind(p, t, f, n)
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	field.Type, field.Of = kind, of
	made.Fields = append(made.Fields, field)
	return nil
}
