package confdoc

import (
	"bytes"
	"cmp"
	_ "embed" // intro.txt
	"fmt"
	"slices"
	"strings"
)

//go:embed intro.txt
var intro string

// width is where text that is no table is wrapped.
const width = 130

// document is one reference while it is written.
type document struct {
	bytes.Buffer
	titles map[*Struct]string // of the sections, without those of modules
}

// Render writes the reference. example is a Caddyfile that has everything.
func Render(modules []*Module, example string) []byte {
	modules = slices.Clone(modules)
	slices.SortStableFunc(modules, func(a, b *Module) int { return cmp.Compare(rank(a.ID), rank(b.ID)) })
	d := &document{titles: map[*Struct]string{}}
	own, shared := arrange(modules)
	for _, p := range slices.Concat(append(slices.Clone(own), shared)...) {
		d.titles[p.of] = p.title()
	}
	d.WriteString(intro)
	d.WriteString("\n")
	for _, m := range modules {
		fmt.Fprintf(d, "- [`%s`](#%s)\n", m.ID, anchor(m.ID))
	}
	fmt.Fprintf(d, "- [%s](#%s)\n- [%s](#%s)\n", sharedTitle, anchor(sharedTitle), exampleTitle, anchor(exampleTitle))
	for i, m := range modules {
		fmt.Fprintf(d, "\n## `%s`\n\n", m.ID)
		d.text(named(m.Struct, m.ID))
		if m.Syntax != "" {
			fmt.Fprintf(d, "\n```\n%s\n```\n", m.Syntax)
		}
		d.table(m.Struct)
		d.parts(own[i])
	}
	fmt.Fprintf(d, "\n## %s\n", sharedTitle)
	d.parts(shared)
	fmt.Fprintf(d, "\n## %s\n\n", exampleTitle)
	d.text(exampleText)
	fmt.Fprintf(d, "\n```caddyfile\n%s\n```\n", strings.TrimSpace(example))
	return d.Bytes()
}

// rank is the place of a module: what everybody needs comes first.
func rank(id string) int {
	i := slices.IndexFunc([]string{"audit_log", "http.handlers.audit_log", "http.handlers.audit_log_viewer"}, func(s string) bool { return s == id })
	switch {
	case i >= 0:
		return i
	case strings.HasPrefix(id, "audit_log.stores."):
		return 3
	}
	return 4
}

const (
	sharedTitle  = "What several modules have"
	exampleTitle = "A Caddyfile with everything"
	exampleText  = `A test loads it, and checks that it sets every field that a Caddyfile can set. It is made to be looked things up in and not to be ` +
		`copied whole: it names stores of each kind. It is also a file, [complete.Caddyfile](complete.Caddyfile).`
)

// part is an object in modules, with the paths that lead to it.
type part struct {
	of           *Struct
	paths, users []string
	listed       bool
}

func (p *part) title() string {
	title := "`" + strings.Join(p.paths, "`, `") + "`"
	if len(p.users) > 1 {
		title += " of " + strings.Join(p.users, ", ")
	}
	return title
}

// arrange finds the objects below each module, in their order, and apart from them those
// that several modules have.
func arrange(modules []*Module) (own [][]*part, shared []*part) {
	all := map[*Struct]*part{}
	own = make([][]*part, len(modules))
	var order []*part
	for i, m := range modules {
		user := m.ID[strings.LastIndex(m.ID, ".")+1:]
		var walk func(s *Struct, path string)
		walk = func(s *Struct, path string) {
			for _, f := range s.Fields {
				if f.Of == nil {
					continue
				}
				p := all[f.Of]
				if p == nil {
					p = &part{of: f.Of, listed: strings.HasPrefix(f.Type, "list of ")}
					all[f.Of] = p
					order = append(order, p)
					own[i] = append(own[i], p)
				}
				if !slices.Contains(p.users, user) {
					p.users = append(p.users, user)
				}
				if !slices.Contains(p.paths, path+f.JSON) {
					p.paths = append(p.paths, path+f.JSON)
					walk(f.Of, path+f.JSON+".")
				}
			}
		}
		walk(m.Struct, "")
	}
	for i := range own {
		own[i] = slices.DeleteFunc(own[i], func(p *part) bool { return len(p.users) > 1 })
	}
	for _, p := range order {
		if len(p.users) > 1 {
			shared = append(shared, p)
		}
	}
	return own, shared
}

func (d *document) parts(list []*part) {
	for _, p := range list {
		fmt.Fprintf(d, "\n### %s\n\n", p.title())
		name := p.paths[0]
		if p.listed {
			name = "One of " + name
		}
		d.text(named(p.of, name))
		d.table(p.of)
	}
}

// named is a struct's comment, which begins with the name of its Go type, with that which a
// configuration has.
func named(s *Struct, name string) string {
	rest, ok := strings.CutPrefix(s.Doc, s.Name+" ")
	if !ok {
		return s.Doc
	}
	i := strings.LastIndex(name, " ") + 1
	return name[:i] + "`" + name[i:] + "` " + rest
}

func (d *document) table(s *Struct) {
	if len(s.Fields) == 0 {
		d.WriteString("\nIt has no fields.\n")
		return
	}
	d.WriteString("\n| JSON | Caddyfile | type | default | what it is |\n|---|---|---|---|---|\n")
	for _, f := range s.Fields {
		form := ""
		if f.Form != "" {
			form = "`" + f.Form + "`"
		}
		kind := cell(f.Type)
		if f.Of != nil {
			kind = "[" + kind + "](#" + anchor(d.titles[f.Of]) + ")"
		}
		fmt.Fprintf(d, "| `%s` | %s | %s | %s | %s |\n", f.JSON, strings.ReplaceAll(form, "|", `\|`), kind, cell(f.Default), cell(f.Meaning))
	}
}

// cell is a text as a table has it.
func cell(text string) string { return strings.ReplaceAll(escape(text), "|", `\|`) }

// escape takes from a text what Markdown would make of it, but for code.
func escape(text string) string {
	pieces := strings.Split(text, "`")
	for i := 0; i < len(pieces); i += 2 {
		pieces[i] = strings.NewReplacer("<", "&lt;", "*", `\*`, "[", `\[`).Replace(pieces[i])
	}
	return strings.Join(pieces, "`")
}

// text writes the paragraphs of a doc comment.
func (d *document) text(doc string) {
	for i, paragraph := range strings.Split(strings.TrimSpace(doc), "\n\n") {
		if i > 0 {
			d.WriteByte('\n')
		}
		column := 0
		if paragraph != exampleText {
			paragraph = escape(paragraph)
		}
		for word := range strings.FieldsSeq(paragraph) {
			switch {
			case column == 0:
			case column+1+len(word) > width:
				d.WriteByte('\n')
				column = 0
			default:
				d.WriteByte(' ')
				column++
			}
			d.WriteString(word)
			column += len(word)
		}
		d.WriteByte('\n')
	}
}

// anchor is the name that a heading gets.
func anchor(title string) string {
	return strings.NewReplacer(".", "", "`", "", " ", "-", ",", "").Replace(strings.ToLower(title))
}
