// Command gencatalog reads an API's description and writes the routes that a
// catalog needs: method, template, operation id and security, which is
// "required" or empty. It copies no prose. The description is OpenAPI in JSON,
// or a table in CSV whose heading names the columns method, path and operation;
// a table says nothing of security.
//
//	gencatalog -out FILE DESCRIPTION
package main

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"strings"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/audit/description"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("gencatalog: ")
	out := flag.String("out", "", "the file to write")
	flag.Parse()
	if err := run(*out, flag.Args(), os.Stderr); err != nil {
		log.Fatal(err)
	}
}

func run(out string, args []string, warnings io.Writer) error {
	if out == "" || len(args) != 1 || args[0] == "" {
		return errors.New("reading the arguments: give -out and the path of one description; " +
			"under go generate, that path is in the variable that the directive names")
	}
	described, err := os.ReadFile(args[0])
	if err != nil {
		return fmt.Errorf("reading the description: %w", err)
	}
	var table bytes.Buffer
	if err := generate(described, &table, warnings); err != nil {
		return fmt.Errorf("reading the description %s: %w", args[0], err)
	}
	if err := os.WriteFile(out, table.Bytes(), 0o644); err != nil {
		return fmt.Errorf("writing the routes: %w", err)
	}
	return nil
}

// methods are what a table may name.
var methods = []string{"GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"}

// generate writes the routes in a stable order. What it cannot use it skips,
// with a warning: a description has more faults than readers.
func generate(described []byte, table, warnings io.Writer) error {
	warn := func(format string, args ...any) { fmt.Fprintf(warnings, "gencatalog: "+format+"\n", args...) }
	read := readTable
	if bytes.HasPrefix(bytes.TrimSpace(described), []byte("{")) {
		read = readOpenAPI
	}
	routes, err := read(described, warn)
	if err != nil {
		return err
	}
	if len(routes) == 0 {
		return errors.New("finding no operations: is it an OpenAPI description in JSON, or a table in CSV?")
	}
	slices.SortFunc(routes, func(a, b audit.Route) int {
		return cmp.Or(cmp.Compare(a.Template, b.Template), cmp.Compare(a.Method, b.Method))
	})
	w := csv.NewWriter(table)
	w.Write([]string{"method", "template", "operation_id", "security"})
	for _, route := range routes {
		security := ""
		if route.Secured {
			security = "required"
		}
		w.Write([]string{route.Method, route.Template, route.Code, security})
	}
	w.Flush()
	return w.Error()
}

func readOpenAPI(described []byte, warn func(string, ...any)) ([]audit.Route, error) {
	routes, warnings, err := description.OpenAPI(described)
	for _, w := range warnings {
		warn("%s", w)
	}
	return routes, err
}

// readTable reads three columns by their names and leaves the others.
func readTable(table []byte, warn func(string, ...any)) ([]audit.Route, error) {
	rows, err := csv.NewReader(bytes.NewReader(table)).ReadAll()
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	var columns [3]int
	for i, name := range []string{"method", "path", "operation"} {
		if columns[i] = slices.Index(rows[0], name); columns[i] < 0 {
			return nil, fmt.Errorf("finding no column %q in the first line: name it there", name)
		}
	}
	routes := make([]audit.Route, 0, len(rows)-1)
	for _, row := range rows[1:] {
		route := audit.Route{Method: strings.ToUpper(row[columns[0]]), Template: row[columns[1]], Code: row[columns[2]]}
		if !slices.Contains(methods, route.Method) || !strings.HasPrefix(route.Template, "/") {
			warn("skipping %q %q: it is no operation", route.Method, route.Template)
			continue
		}
		routes = append(routes, route)
	}
	return description.Distinct(routes, warn), nil
}
