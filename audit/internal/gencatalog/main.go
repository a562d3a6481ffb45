// Command gencatalog reads an OpenAPI description and writes the routes that a
// catalog needs: method, template and operation id. It copies no prose.
//
//	gencatalog -out FILE DESCRIPTION
package main

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"slices"
	"strings"
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
			"under go generate, that path is in $MANAGEMENT_OPENAPI")
	}
	description, err := os.ReadFile(args[0])
	if err != nil {
		return fmt.Errorf("reading the description: %w", err)
	}
	var table bytes.Buffer
	if err := generate(description, &table, warnings); err != nil {
		return fmt.Errorf("reading the description %s: %w", args[0], err)
	}
	if err := os.WriteFile(out, table.Bytes(), 0o644); err != nil {
		return fmt.Errorf("writing the routes: %w", err)
	}
	return nil
}

// methods are the keys of a path that stand for operations; others hold
// parameters, servers and extensions.
var methods = []string{"get", "put", "post", "delete", "options", "head", "patch", "trace"}

type operation struct{ method, template, id string }

// generate writes the routes in a stable order. What it cannot use it skips,
// with a warning: a description has more faults than readers.
func generate(description []byte, table, warnings io.Writer) error {
	var doc struct {
		Paths map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(description, &doc); err != nil {
		return err
	}
	seen := make(map[string]bool)
	var operations []operation
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		var item map[string]json.RawMessage
		if err := json.Unmarshal(doc.Paths[path], &item); err != nil || !strings.HasPrefix(path, "/") {
			fmt.Fprintf(warnings, "gencatalog: skipping %q: it is no path\n", path)
			continue
		}
		template, query, _ := strings.Cut(path, "?")
		if query != "" {
			fmt.Fprintf(warnings, "gencatalog: dropping the query of %s\n", path)
		}
		for _, method := range methods {
			raw, ok := item[method]
			if !ok {
				continue
			}
			op := operation{method: strings.ToUpper(method), template: template}
			key := op.method + " " + op.template
			var fields struct {
				OperationID string `json:"operationId"`
			}
			if err := json.Unmarshal(raw, &fields); err != nil {
				fmt.Fprintf(warnings, "gencatalog: skipping the id of %s: %v\n", key, err)
			}
			op.id = fields.OperationID
			if seen[key] {
				fmt.Fprintf(warnings, "gencatalog: skipping the second %s\n", key)
				continue
			}
			seen[key] = true
			operations = append(operations, op)
		}
	}
	if len(operations) == 0 {
		return errors.New("finding no operations: is it an OpenAPI description in JSON?")
	}
	slices.SortFunc(operations, func(a, b operation) int {
		return cmp.Or(cmp.Compare(a.template, b.template), cmp.Compare(a.method, b.method))
	})
	w := csv.NewWriter(table)
	w.Write([]string{"method", "template", "operation_id"})
	for _, op := range operations {
		w.Write([]string{op.method, op.template, op.id})
	}
	w.Flush()
	return w.Error()
}
