package confdoc

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// source is what has been read of the repository.
type source struct {
	root     string
	fset     *token.FileSet
	packages map[string]*pkg
	structs  map[structKey]*Struct
	goNames  map[*Struct][][2]string // the Go and the JSON names of its fields
	problems []error
}

type structKey struct{ pkg, name string }

// pkg is a package, by its folder below the root.
type pkg struct {
	path    string
	types   map[string]*typeDecl
	funcs   map[string]string // doc comments; methods as Type.Method
	modules []moduleType
}

type typeDecl struct {
	spec    *ast.TypeSpec
	doc     string
	imports map[string]string // of its file, by name
}

// moduleType is a type with a method CaddyModule.
type moduleType struct{ name, id string }

const repository = "github.com/caddy-audit-log/caddy-audit-log/"

func newSource(root string) (*source, error) {
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		return nil, fmt.Errorf("finding the repository's root: %w", err)
	}
	return &source{
		root: root, fset: token.NewFileSet(), packages: map[string]*pkg{}, structs: map[structKey]*Struct{}, goNames: map[*Struct][][2]string{},
	}, nil
}

func (s *source) problem(format string, args ...any) {
	s.problems = append(s.problems, fmt.Errorf(format, args...))
}

// glob returns the folders below the root that fit.
func (s *source) glob(pattern string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(s.root, pattern))
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, dir := range found {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			rel, err := filepath.Rel(s.root, dir)
			if err != nil {
				return nil, err
			}
			dirs = append(dirs, filepath.ToSlash(rel))
		}
	}
	return dirs, nil
}

// load reads a package's files, but for its tests.
func (s *source) load(path string) (*pkg, error) {
	if p := s.packages[path]; p != nil {
		return p, nil
	}
	p := &pkg{path: path, types: map[string]*typeDecl{}, funcs: map[string]string{}}
	s.packages[path] = p
	files, err := filepath.Glob(filepath.Join(s.root, path, "*.go"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(s.fset, file, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		p.add(f)
	}
	slices.SortFunc(p.modules, func(a, b moduleType) int { return cmp.Compare(a.id, b.id) })
	return p, nil
}

func (p *pkg) add(f *ast.File) {
	imports := map[string]string{}
	for _, i := range f.Imports {
		path, _ := strconv.Unquote(i.Path.Value) // the parser has checked it
		name := path[strings.LastIndex(path, "/")+1:]
		if i.Name != nil {
			name = i.Name.Name
		}
		imports[name] = path
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				if t, ok := spec.(*ast.TypeSpec); ok {
					doc := t.Doc.Text()
					if doc == "" {
						doc = d.Doc.Text()
					}
					p.types[t.Name.Name] = &typeDecl{spec: t, doc: doc, imports: imports}
				}
			}
		case *ast.FuncDecl:
			name := d.Name.Name
			if d.Recv != nil {
				of := receiver(d.Recv.List[0].Type)
				if name == "CaddyModule" {
					if id := moduleID(d.Body); id != "" {
						p.modules = append(p.modules, moduleType{of, id})
					}
				}
				name = of + "." + name
			}
			p.funcs[name] = d.Doc.Text()
		}
	}
}

func receiver(e ast.Expr) string {
	if star, ok := e.(*ast.StarExpr); ok {
		e = star.X
	}
	if ident, ok := e.(*ast.Ident); ok {
		return ident.Name
	}
	return ""
}

// moduleID is the ID in caddy.ModuleInfo{ID: "…"}.
func moduleID(body *ast.BlockStmt) (id string) {
	ast.Inspect(body, func(n ast.Node) bool {
		kv, ok := n.(*ast.KeyValueExpr)
		if !ok {
			return true
		}
		if key, ok := kv.Key.(*ast.Ident); ok && key.Name == "ID" {
			if lit, ok := kv.Value.(*ast.BasicLit); ok {
				id, _ = strconv.Unquote(lit.Value) // a literal of the parser's
			}
		}
		return true
	})
	return id
}

// ownSyntax is that of a type that reads its options itself wherever it stands, as the
// option tls does; nil if it does not.
func (p *pkg) ownSyntax(name string) *node {
	for _, f := range slices.Sorted(maps.Keys(p.funcs)) {
		if of, method, _ := strings.Cut(f, "."); of == name && strings.HasPrefix(method, "Unmarshal") && !slices.ContainsFunc(p.modules, func(m moduleType) bool { return m.name == name }) {
			if n := parseSyntax(syntaxIn(p.funcs[f])); n != nil {
				return n
			}
		}
	}
	return nil
}

// marshalled are structs that are no objects in JSON.
var marshalled = map[string]string{
	"audit.Term": "string, a term",
}

var builtin = map[string]string{
	"string": "string", "bool": "boolean", "float64": "number",
	"int": "integer", "int64": "integer", "uint64": "integer",
}

// known are types of Caddy's and Go's.
var known = map[string]string{
	"caddy.Duration":           "duration",
	"caddyhttp.RawMatcherSets": "list of objects: Caddy's matcher sets",
}

// kind says what JSON has for a type of Go, and what an object there is made of. n is the
// line of a Caddyfile that its options stand below.
func (s *source) kind(p *pkg, t *typeDecl, f *ast.Field, n *node) (string, *Struct, error) {
	return s.kindOf(p, t, f.Type, f.Tag, n)
}

func (s *source) kindOf(p *pkg, t *typeDecl, e ast.Expr, tag *ast.BasicLit, n *node) (string, *Struct, error) {
	switch e := e.(type) {
	case *ast.StarExpr:
		return s.kindOf(p, t, e.X, tag, n)
	case *ast.ArrayType:
		text, of, err := s.kindOf(p, t, e.Elt, tag, n)
		return "list of " + plural(text), of, err
	case *ast.MapType:
		text, of, err := s.kindOf(p, t, e.Value, tag, n)
		return "object of " + plural(text), of, err
	case *ast.Ident:
		if text := builtin[e.Name]; text != "" {
			return text, nil, nil
		}
	case *ast.SelectorExpr:
		name := e.X.(*ast.Ident).Name + "." + e.Sel.Name
		if text := known[name]; text != "" {
			return text, nil, nil
		}
		if name == "json.RawMessage" {
			namespace, key := moduleTag(tag)
			return fmt.Sprintf("object: a module of `%s`, whose name is its `%s`", namespace, key), nil, nil
		}
	}
	in, of, err := s.named(p, t, e)
	if err != nil {
		return "", nil, err
	}
	if of == nil {
		return "", nil, fmt.Errorf("a type that the reference cannot describe: %T", e)
	}
	if text := marshalled[in.path+"."+of.spec.Name.Name]; text != "" {
		return text, nil, nil
	}
	if _, ok := of.spec.Type.(*ast.StructType); !ok {
		return s.kindOf(in, of, of.spec.Type, tag, n)
	}
	made, err := s.structOf(in, of, n)
	return "object", made, err
}

func plural(text string) string {
	first, rest, _ := strings.Cut(text, ",")
	if rest != "" {
		rest = "," + rest
	}
	return first + "s" + rest
}

// named finds a type of this repository, and where it is declared, behind all aliases; nil
// if it is another's.
func (s *source) named(p *pkg, t *typeDecl, e ast.Expr) (*pkg, *typeDecl, error) {
	switch e := e.(type) {
	case *ast.StarExpr:
		return s.named(p, t, e.X)
	case *ast.Ident:
		of := p.types[e.Name]
		if of == nil {
			return nil, nil, nil
		}
		if of.spec.Assign.IsValid() {
			return s.named(p, of, of.spec.Type)
		}
		return p, of, nil
	case *ast.SelectorExpr:
		path, ours := strings.CutPrefix(t.imports[e.X.(*ast.Ident).Name], repository)
		if !ours {
			return nil, nil, nil
		}
		in, err := s.load(path)
		if err != nil {
			return nil, nil, err
		}
		of := in.types[e.Sel.Name]
		if of != nil && of.spec.Assign.IsValid() {
			return s.named(in, of, of.spec.Type)
		}
		return in, of, nil
	}
	return nil, nil, nil
}

func structTag(tag *ast.BasicLit) reflect.StructTag {
	if tag == nil {
		return ""
	}
	text, _ := strconv.Unquote(tag.Value) // a literal of the parser's
	return reflect.StructTag(text)
}

func jsonName(tag *ast.BasicLit) string {
	name, _, _ := strings.Cut(structTag(tag).Get("json"), ",")
	return name
}

// moduleTag reads caddy:"namespace=… inline_key=…".
func moduleTag(tag *ast.BasicLit) (namespace, key string) {
	for part := range strings.FieldsSeq(structTag(tag).Get("caddy")) {
		switch name, value, _ := strings.Cut(part, "="); name {
		case "namespace":
			namespace = value
		case "inline_key":
			key = value
		}
	}
	return namespace, key
}
