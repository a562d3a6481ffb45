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
			"under go generate, that path is in the variable that the directive names")
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

type operation struct {
	method, template, id string
	// secured says that the description requires a credential.
	secured bool
}

// generate writes the routes in a stable order. What it cannot use it skips,
// with a warning: a description has more faults than readers.
func generate(description []byte, table, warnings io.Writer) error {
	read := readTable
	if bytes.HasPrefix(bytes.TrimSpace(description), []byte("{")) {
		read = readOpenAPI
	}
	all, err := read(description, warnings)
	if err != nil {
		return err
	}
	operations := dropRepeated(all, warnings)
	if len(operations) == 0 {
		return errors.New("finding no operations: is it an OpenAPI description in JSON, or a table in CSV?")
	}
	slices.SortFunc(operations, func(a, b operation) int {
		return cmp.Or(cmp.Compare(a.template, b.template), cmp.Compare(a.method, b.method))
	})
	w := csv.NewWriter(table)
	w.Write([]string{"method", "template", "operation_id", "security"})
	for _, op := range operations {
		security := ""
		if op.secured {
			security = "required"
		}
		w.Write([]string{op.method, op.template, op.id, security})
	}
	w.Flush()
	return w.Error()
}

// dropRepeated keeps the first operation of each method and template. Such
// operations differ by their query, which a catalog does not see: the one that
// stays requires a credential only if all of them do.
func dropRepeated(all []operation, warnings io.Writer) []operation {
	seen := make(map[string]int)
	var operations []operation
	for _, op := range all {
		key := op.method + " " + op.template
		if i, ok := seen[key]; ok {
			fmt.Fprintf(warnings, "gencatalog: skipping the second %s\n", key)
			operations[i].secured = operations[i].secured && op.secured
			continue
		}
		seen[key] = len(operations)
		operations = append(operations, op)
	}
	return operations
}

// readOpenAPI reads the operations in the order of their paths.
func readOpenAPI(description []byte, warnings io.Writer) ([]operation, error) {
	var doc struct {
		Security json.RawMessage            `json:"security"`
		Paths    map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(description, &doc); err != nil {
		return nil, err
	}
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
			op.readFields(raw, doc.Security, warnings)
			operations = append(operations, op)
		}
	}
	return operations, nil
}

// readFields reads what an operation says of itself. Its own security replaces
// the document's, even where it is an empty list.
func (op *operation) readFields(raw, security json.RawMessage, warnings io.Writer) {
	var fields struct {
		OperationID string          `json:"operationId"`
		Security    json.RawMessage `json:"security"`
	}
	if err := json.Unmarshal(raw, &fields); err != nil {
		fmt.Fprintf(warnings, "gencatalog: skipping the id of %s %s: %v\n", op.method, op.template, err)
	}
	op.id = fields.OperationID
	if fields.Security != nil {
		security = fields.Security
	}
	secured, err := requiresCredential(security)
	if err != nil {
		fmt.Fprintf(warnings, "gencatalog: skipping the security of %s %s: %v\n", op.method, op.template, err)
	}
	op.secured = secured
}

// requiresCredential judges a list of security requirements, of which a call
// need meet only one: the empty one makes all the others optional. What cannot
// be read requires nothing, since a requirement that is not there would vouch
// for credentials that nobody looked at.
func requiresCredential(security json.RawMessage) (bool, error) {
	if security == nil {
		return false, nil
	}
	var requirements []map[string]json.RawMessage
	if err := json.Unmarshal(security, &requirements); err != nil {
		return false, err
	}
	isEmpty := func(r map[string]json.RawMessage) bool { return len(r) == 0 }
	return len(requirements) > 0 && !slices.ContainsFunc(requirements, isEmpty), nil
}

// readTable reads three columns by their names and leaves the others.
func readTable(table []byte, warnings io.Writer) ([]operation, error) {
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
	operations := make([]operation, 0, len(rows)-1)
	for _, row := range rows[1:] {
		op := operation{method: strings.ToUpper(row[columns[0]]), template: row[columns[1]], id: row[columns[2]]}
		if !slices.Contains(methods, strings.ToLower(op.method)) || !strings.HasPrefix(op.template, "/") {
			fmt.Fprintf(warnings, "gencatalog: skipping %q %q: it is no operation\n", op.method, op.template)
			continue
		}
		operations = append(operations, op)
	}
	return operations, nil
}
