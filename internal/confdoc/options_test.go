package confdoc

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What a function compares with, that reads a Caddyfile, is an option or one of its words.
// Each must stand in a syntax of its package, or of the blocks that stores share.
func TestEveryWordThatACaddyfileTakesIsInASyntax(t *testing.T) {
	s, err := newSource(root)
	if err != nil {
		t.Fatal(err)
	}
	dirs, err := s.glob("forwarder/stores/*")
	if err != nil {
		t.Fatal(err)
	}
	rooms, err := s.glob("caddymodule/*")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, dir := range append(append(dirs, "caddymodule"), rooms...) {
		p, err := s.load(dir)
		if err != nil {
			t.Fatal(err)
		}
		known := map[string]bool{}
		add := func(p *pkg) {
			for _, doc := range p.funcs {
				for _, word := range wordForm.FindAllString(syntaxIn(doc), -1) {
					known[word] = true
				}
			}
		}
		add(p)
		if slices.Contains(rooms, dir) { // whose blocks stand in those of caddymodule
			above, err := s.load("caddymodule")
			if err != nil {
				t.Fatal(err)
			}
			add(above)
		}
		for word, at := range readWords(t, filepath.Join(root, dir)) {
			checked++
			if !known[word] && !notWords[word] {
				t.Errorf("%s: %q is in no syntax of %s: add it there, and its field", at, word, dir)
			}
		}
	}
	if checked < 150 {
		t.Errorf("only %d words were found", checked)
	}
}

// notWords are compared with something else than what stands in a Caddyfile.
var notWords = map[string]bool{
	"http": true, "https": true, // schemes
}

var wordForm = regexp.MustCompile(`[a-z][a-z0-9_]+`)

// readWords are the words that the functions of a folder compare with, which read from a
// dispenser or from arguments that came from one.
func readWords(t *testing.T, dir string) map[string]token.Position {
	t.Helper()
	fset := token.NewFileSet()
	words := map[string]token.Position{}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := parser.ParseFile(fset, name, text, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && readsCaddyfile(fn) {
				collect(fset, fn, words)
			}
		}
	}
	return words
}

// readsCaddyfile says that a function has a dispenser or its arguments.
func readsCaddyfile(fn *ast.FuncDecl) bool {
	return slices.ContainsFunc(fn.Type.Params.List, func(p *ast.Field) bool {
		switch e := p.Type.(type) {
		case *ast.StarExpr:
			sel, ok := e.X.(*ast.SelectorExpr)
			return ok && sel.Sel.Name == "Dispenser"
		case *ast.SelectorExpr:
			return e.Sel.Name == "Helper"
		case *ast.ArrayType:
			elem, ok := e.Elt.(*ast.Ident)
			return ok && elem.Name == "string" && len(p.Names) == 1 && p.Names[0].Name == "args"
		}
		return false
	})
}

func collect(fset *token.FileSet, fn *ast.FuncDecl, words map[string]token.Position) {
	add := func(e ast.Expr) {
		lit, ok := e.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return
		}
		if word, err := strconv.Unquote(lit.Value); err == nil && word != "" && wordForm.FindString(word) == word {
			words[word] = fset.Position(lit.Pos())
		}
	}
	ast.Inspect(fn, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CaseClause:
			for _, e := range n.List {
				add(e)
			}
		case *ast.BinaryExpr:
			if n.Op == token.EQL || n.Op == token.NEQ {
				add(n.X)
				add(n.Y)
			}
		case *ast.CompositeLit:
			if _, ok := n.Type.(*ast.MapType); ok {
				for _, e := range n.Elts {
					if kv, ok := e.(*ast.KeyValueExpr); ok {
						add(kv.Key)
					}
				}
			}
			for _, e := range n.Elts {
				if kv, ok := e.(*ast.KeyValueExpr); ok {
					if key, ok := kv.Key.(*ast.Ident); ok && key.Name == "Name" {
						add(kv.Value)
					}
				}
			}
		}
		return true
	})
}
