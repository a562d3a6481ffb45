// Command othersystems checks that packages and their tests compile for another operating
// system, without compiling what they import: a compiler takes minutes for all of it, most
// of them for SQLite, and the types of it are known in seconds.
//
//	go run ./internal/othersystems -goos windows ./buffer/...
//
// It is run at the top of the module: what lies below is looked at whole.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/tools/go/packages"
)

func main() {
	goos := flag.String("goos", "", "the operating `system`, as in windows")
	tests := flag.Bool("tests", true, "look at tests too")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), "usage: othersystems -goos windows [-tests=false] ./buffer/... ./cmd/caddy\n\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	if *goos == "" || flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	n, err := check(*goos, *tests, flag.Args()...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("%s: %d packages compile\n", *goos, n)
}

// check looks at the packages that the patterns name, and at their tests if those are
// wanted, and returns how many there were.
func check(goos string, tests bool, patterns ...string) (n int, err error) {
	here, err := filepath.Abs(".")
	if err != nil {
		return 0, err
	}
	own := func(file string) bool { return strings.HasPrefix(file, here+string(filepath.Separator)) }
	all, err := packages.Load(&packages.Config{
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedCompiledGoFiles | packages.NeedImports | packages.NeedDeps |
			packages.NeedTypes | packages.NeedTypesSizes | packages.NeedSyntax | packages.NeedTypesInfo,
		Env:   append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0"),
		Tests: tests,
		ParseFile: func(files *token.FileSet, name string, source []byte) (*ast.File, error) {
			f, err := parser.ParseFile(files, name, source, parser.SkipObjectResolution)
			if f != nil && !own(name) {
				forgetBodies(f)
			}
			return f, err
		},
	}, patterns...)
	if err != nil {
		return 0, fmt.Errorf("loading packages for %s: %w", goos, err)
	}
	if len(all) == 0 {
		return 0, errors.New("loading packages: there are none of these names")
	}
	var wrong []error
	for _, p := range all {
		if strings.HasSuffix(p.ID, ".test") { // its program is generated
			continue
		}
		n++
		for _, e := range p.Errors {
			wrong = append(wrong, fmt.Errorf("%s: compiling for %s: %s", cmp.Or(e.Pos, p.ID), goos, e.Msg))
		}
	}
	return n, errors.Join(wrong...)
}

// forgetBodies lets go of what functions do, which nobody looks at in what is imported.
func forgetBodies(f *ast.File) {
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
			fn.Body = &ast.BlockStmt{Lbrace: fn.Body.Lbrace, Rbrace: fn.Body.Rbrace}
		}
	}
}
