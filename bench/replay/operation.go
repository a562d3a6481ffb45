package main

import (
	_ "embed"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// The oracle was written by hand from the APIs' descriptions, apart from the
// product's own catalog.
var (
	//go:embed testdata/supabase_operations.csv
	managementOracle string
	//go:embed testdata/platform_operations.csv
	dashboardOracle string
)

// dashboard is what the paths of the dashboard's API begin with.
const dashboard = "/platform/"

// shippedOracle is both tables.
func shippedOracle() ([]operation, error) {
	var all []operation
	for _, text := range []string{managementOracle, dashboardOracle} {
		ops, err := readOracle(strings.NewReader(text))
		if err != nil {
			return nil, err
		}
		all = append(all, ops...)
	}
	return all, nil
}

// operation is one operation and what its entry must say.
type operation struct {
	Method   string
	Template string
	Code     string

	TargetType string
	// The *Param fields name the template parameter whose value is expected;
	// empty expects the field to be absent.
	TargetIDParam     string
	TargetParentParam string
	OrganizationParam string
	ProjectParam      string
}

// secret reports whether a parameter of the operation is a credential: one
// that is named like one and is not the target's id.
func (o operation) secret(param string) bool {
	return slices.Contains(secretParams, param) && o.TargetIDParam != param
}

func (o operation) key() string { return o.Method + " " + o.Template }

var oracleColumns = []string{
	"method", "template", "operation_id", "target_type", "target_id_param",
	"target_parent_param", "organization_param", "project_param",
}

func readOracle(r io.Reader) ([]operation, error) {
	rows, err := csv.NewReader(r).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("reading the oracle: %w", err)
	}
	if len(rows) < 2 || !slices.Equal(rows[0], oracleColumns) {
		return nil, fmt.Errorf("reading the oracle: its first line must be %s", strings.Join(oracleColumns, ","))
	}
	var ops []operation
	seen := map[string]bool{}
	for i, r := range rows[1:] {
		o := operation{strings.ToUpper(r[0]), r[1], r[2], r[3], r[4], r[5], r[6], r[7]}
		if seen[o.key()] {
			return nil, fmt.Errorf("reading the oracle: line %d repeats %s", i+2, o.key())
		}
		seen[o.key()] = true
		names := paramNames(o.Template)
		for _, p := range []string{o.TargetIDParam, o.TargetParentParam, o.OrganizationParam, o.ProjectParam} {
			if p != "" && !slices.Contains(names, p) {
				return nil, fmt.Errorf("reading the oracle: line %d names parameter %q, which %s has not", i+2, p, o.Template)
			}
		}
		ops = append(ops, o)
	}
	return ops, nil
}

// paramNames are the names between braces.
func paramNames(template string) []string {
	var names []string
	for _, part := range strings.Split(template, "{")[1:] {
		name, _, _ := strings.Cut(part, "}")
		names = append(names, name)
	}
	return names
}

// description is what is read of an OpenAPI description: which operations it
// has, and the shape of their path parameters.
type description struct {
	Codes  map[string]string // "GET /v1/…" → operationId
	Shapes map[string]map[string]schema
}

type parameter struct {
	Name   string `json:"name"`
	In     string `json:"in"`
	Schema schema `json:"schema"`
}

func readDescription(path string) (description, error) {
	d := description{Codes: map[string]string{}, Shapes: map[string]map[string]schema{}}
	b, err := os.ReadFile(path)
	if err != nil {
		return d, fmt.Errorf("reading the description: %w", err)
	}
	var doc struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return d, fmt.Errorf("reading the description %s: %w", path, err)
	}
	for template, item := range doc.Paths {
		var shared []parameter
		if raw, ok := item["parameters"]; ok {
			if err := json.Unmarshal(raw, &shared); err != nil {
				return d, fmt.Errorf("reading the parameters of %s: %w", template, err)
			}
		}
		for _, method := range []string{"get", "head", "post", "put", "patch", "delete", "options", "trace"} {
			raw, ok := item[method]
			if !ok {
				continue
			}
			var op struct {
				OperationID string      `json:"operationId"`
				Parameters  []parameter `json:"parameters"`
			}
			if err := json.Unmarshal(raw, &op); err != nil {
				return d, fmt.Errorf("reading %s %s: %w", method, template, err)
			}
			key := strings.ToUpper(method) + " " + template
			d.Codes[key], d.Shapes[key] = op.OperationID, map[string]schema{}
			for _, p := range append(shared, op.Parameters...) {
				if p.In == "path" {
					d.Shapes[key][p.Name] = p.Schema
				}
			}
		}
	}
	if len(d.Codes) == 0 {
		return d, fmt.Errorf("reading the description %s: it has no operations under paths", path)
	}
	return d, nil
}

// readRoutes reads the dashboard's routes, as the columns method, path and
// operation of a CSV file.
func readRoutes(path string) (description, error) {
	d := description{Codes: map[string]string{}, Shapes: map[string]map[string]schema{}}
	f, err := os.Open(path)
	if err != nil {
		return d, fmt.Errorf("reading the routes: %w", err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return d, fmt.Errorf("reading the routes %s: %w", path, err)
	}
	if len(rows) < 2 || len(rows[0]) < 3 || !slices.Equal(rows[0][:3], []string{"method", "path", "operation"}) {
		return d, fmt.Errorf("reading the routes %s: its first line must begin with method,path,operation", path)
	}
	for _, r := range rows[1:] {
		d.Codes[strings.ToUpper(r[0])+" "+r[1]] = r[2]
	}
	return d, nil
}

// agree checks that oracle and description speak of the same operations: the
// description is the real input, the oracle was written by hand.
func (d description) agree(ops []operation) error {
	var wrong []string
	have := map[string]bool{}
	for _, o := range ops {
		have[o.key()] = true
		switch code, ok := d.Codes[o.key()]; {
		case !ok:
			wrong = append(wrong, "only the oracle has "+o.key())
		case code != o.Code:
			wrong = append(wrong, fmt.Sprintf("%s is %q in the description and %q in the oracle", o.key(), code, o.Code))
		}
	}
	for key := range d.Codes {
		if !have[key] {
			wrong = append(wrong, "only the description has "+key)
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	slices.Sort(wrong)
	return fmt.Errorf("comparing the description with the oracle: %s", strings.Join(wrong, "; "))
}
