package doccheck

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// line is a log line, by its level and message.
type line struct{ level, message string }

// Each call in the source of a method that logs has its row in docs/logs.md, with the names of
// its fields, and each row its call.
func TestEveryLogLineIsDocumented(t *testing.T) {
	written, documented := written(t), documented(t)
	if len(written) < 80 {
		t.Fatalf("only %d lines were found in the source", len(written))
	}
	for _, l := range slices.SortedFunc(maps.Keys(written), byMessage) {
		w := written[l]
		row, there := documented[l]
		if !there {
			t.Errorf("%s: %s %q is not in docs/logs.md", w.at, l.level, l.message)
			continue
		}
		if fields := strings.Join(w.fields, " "); fields != row.fields {
			t.Errorf("%s: %q has the fields %s, and docs/logs.md says %s", w.at, l.message, fields, row.fields)
		}
	}
	for _, l := range slices.SortedFunc(maps.Keys(documented), byMessage) {
		if _, there := written[l]; !there {
			t.Errorf("docs/logs.md has a line that nothing writes: %s %q", l.level, l.message)
		}
	}
}

// What a row says that ends it, in code, is a line itself.
func TestWhatEndsALogLineIsOne(t *testing.T) {
	documented := documented(t)
	messages := map[string]bool{}
	for l := range documented {
		messages[l.message] = true
	}
	for l, row := range documented {
		for _, m := range code.FindAllString(row.over, -1) {
			if name := strings.Trim(m, "`"); strings.Contains(name, " ") && !messages[name] {
				t.Errorf("%q ends with %q, which is no line", l.message, name)
			}
		}
	}
}

func byMessage(a, b line) int {
	return strings.Compare(a.message+a.level, b.message+b.level)
}

type row struct{ fields, over string }

var rowForm = regexp.MustCompile("(?m)^\\| (ERROR|WARN|INFO|DEBUG) \\| `([^`]+)` \\|([^|]*)\\|([^|]*)\\|([^|]*)\\|$")

func documented(t *testing.T) map[line]row {
	t.Helper()
	rows := map[line]row{}
	for _, m := range rowForm.FindAllStringSubmatch(content(t, "docs/logs.md"), -1) {
		l := line{m[1], m[2]}
		if _, there := rows[l]; there {
			t.Errorf("docs/logs.md has %q twice", l.message)
		}
		fields := strings.NewReplacer("`", "", ",", "").Replace(m[3])
		rows[l] = row{strings.TrimSpace(fields), m[5]}
	}
	return rows
}

type call struct {
	at     token.Position
	fields []string
}

// rooms are where something is logged that is no test's and no program's for developers.
var rooms = []string{"audit/", "buffer/", "caddymodule/", "cmd/caddy/", "forwarder/", "identity/", "internal/fetch/", "viewer/"}

func written(t *testing.T) map[line]call {
	t.Helper()
	calls := map[line]call{}
	fset := token.NewFileSet()
	for _, name := range files(t, ".go") {
		in := slices.ContainsFunc(rooms, func(room string) bool { return strings.HasPrefix(name, room) })
		if !in || strings.HasSuffix(name, "_test.go") || strings.Contains(name, "test/") || strings.Contains(name, "/internal/gen") {
			continue
		}
		f, err := parser.ParseFile(fset, filepath.Join(root, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				c, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				l, fields, err := logged(fn, c)
				if err != nil {
					t.Errorf("%s: %v", fset.Position(c.Pos()), err)
				}
				if l.message == "" {
					return true
				}
				if before, there := calls[l]; there && !slices.Equal(before.fields, fields) {
					t.Errorf("%s: %q has other fields than at %s", fset.Position(c.Pos()), l.message, before.at)
				}
				calls[l] = call{fset.Position(c.Pos()), fields}
				return true
			})
		}
	}
	return calls
}

// logged is the line that a call writes; without a message it writes none.
func logged(fn *ast.FuncDecl, c *ast.CallExpr) (l line, fields []string, err error) {
	sel, ok := c.Fun.(*ast.SelectorExpr)
	if !ok || !isLogger(sel.X) {
		return l, nil, nil
	}
	switch sel.Sel.Name {
	case "Debug", "Info", "Warn", "Error":
	case "Log", "LogAttrs", "DebugContext", "InfoContext", "WarnContext", "ErrorContext":
		return l, nil, fmt.Errorf("a way of logging that is not looked for: %s", sel.Sel.Name)
	default:
		return l, nil, nil
	}
	if l.message, ok = text(c.Args[0]); !ok {
		return l, nil, fmt.Errorf("the message of %s is no constant", sel.Sel.Name)
	}
	l.level = strings.ToUpper(sel.Sel.Name)
	args := c.Args[1:]
	if c.Ellipsis.IsValid() {
		args = gathered(fn, args[0])
	}
	for i := 0; i < len(args); i += 2 {
		key, ok := text(args[i])
		if !ok {
			return l, nil, fmt.Errorf("a field of %q has no constant name", l.message)
		}
		fields = append(fields, key)
	}
	return l, fields, nil
}

// isLogger goes by the name, as all of them are called.
func isLogger(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == "log" || e.Name == "logger"
	case *ast.SelectorExpr:
		return e.Sel.Name == "log" || e.Sel.Name == "Logger" || e.Sel.Name == "logger"
	case *ast.CallExpr:
		return isLogger(e.Fun)
	}
	return false
}

func text(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return s, err == nil && e.Kind == token.STRING
	case *ast.BinaryExpr:
		a, ok := text(e.X)
		b, also := text(e.Y)
		return a + b, ok && also && e.Op == token.ADD
	}
	return "", false
}

// gathered are the arguments that a function puts into a slice before it logs with that.
func gathered(fn *ast.FuncDecl, slice ast.Expr) (args []ast.Expr) {
	name, ok := slice.(*ast.Ident)
	if !ok {
		return []ast.Expr{slice}
	}
	ast.Inspect(fn, func(n ast.Node) bool {
		assign, ok := n.(*ast.AssignStmt)
		if !ok || len(assign.Lhs) != 1 {
			return true
		}
		if to, ok := assign.Lhs[0].(*ast.Ident); !ok || to.Name != name.Name {
			return true
		}
		switch v := assign.Rhs[0].(type) {
		case *ast.CompositeLit:
			args = append(args, v.Elts...)
		case *ast.CallExpr:
			args = append(args, v.Args[1:]...)
		}
		return true
	})
	return args
}
