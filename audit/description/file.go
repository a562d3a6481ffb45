package description

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// operation is one of a catalog file. A field that is not there says nothing;
// see audit.Override.
type operation struct {
	Method       string    `yaml:"method"`
	Path         string    `yaml:"path"`
	Code         *string   `yaml:"code"`
	Name         *string   `yaml:"name"`
	Target       *target   `yaml:"target"`
	Organization *string   `yaml:"organization"`
	Project      *string   `yaml:"project"`
	Secrets      *[]string `yaml:"secrets"`
	Changing     *bool     `yaml:"changing"`
	Secured      *bool     `yaml:"secured"`
	Sensitive    *bool     `yaml:"sensitive"`
	Capture      *capture  `yaml:"capture"`
	Born         *string   `yaml:"born"`
	Transfers    *bool     `yaml:"transfers"`
	Offers       *bool     `yaml:"offers"`
}

type target struct {
	Type   string `yaml:"type"`
	ID     string `yaml:"id"`
	Parent string `yaml:"parent"`
}

type capture struct {
	Body     []string `yaml:"body"`
	Query    []string `yaml:"query"`
	Header   []string `yaml:"header"`
	Response []string `yaml:"response"`
}

// known are the fields of each part, for the error that finds another one.
var known = map[string]string{
	"file":      "operations",
	"operation": "method, path, code, name, target, organization, project, secrets, changing, secured, sensitive, capture, born, transfers, offers",
	"target":    "type, id, parent",
	"capture":   "body, query, header, response",
}

type file struct {
	Operations []operation `yaml:"operations"`
}

// File reads a catalog file: operations in YAML, as docs/catalog.md describes
// it. It is strict, since a person wrote it: whatever it does not know is an
// error that says where.
func File(data []byte) ([]audit.Override, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("reading %d bytes: a catalog file may have %d MiB: split it", len(data), MaxBytes>>20)
	}
	var f file
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return nil, plain(err)
	}
	if decoder.Decode(new(yaml.Node)) == nil {
		return nil, errors.New("finding a second document behind a line of ---: write one list of operations")
	}
	switch n := len(f.Operations); {
	case n == 0:
		return nil, errors.New("finding no operations: make a list of them, named operations")
	case n > MaxOperations:
		return nil, fmt.Errorf("counting %d operations: a catalog file may have %d: split it", n, MaxOperations)
	}
	// Again, since only nodes know their lines.
	var lines struct {
		Operations []yaml.Node `yaml:"operations"`
	}
	if err := yaml.Unmarshal(data, &lines); err != nil {
		return nil, plain(err)
	}
	return overrides(f.Operations, lines.Operations)
}

func overrides(operations []operation, nodes []yaml.Node) ([]audit.Override, error) {
	all := make([]audit.Override, 0, len(operations))
	seen := make(map[string]int, len(operations))
	for i := range operations {
		line := nodes[i].Line
		o, err := operations[i].override()
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		key := audit.SameRoute(o.Method, o.Template)
		if first, ok := seen[key]; ok {
			return nil, fmt.Errorf("line %d: reading %s %s: no path could tell it from the one at line %d: drop one", line, o.Method, o.Template, first)
		}
		seen[key] = line
		o.At = fmt.Sprintf("line %d", line)
		all = append(all, o)
	}
	return all, nil
}

var methodForm = regexp.MustCompile(`^[A-Za-z]{1,32}$`)

func (op *operation) override() (audit.Override, error) {
	o := audit.Override{
		Method: strings.ToUpper(op.Method), Template: op.Path, Code: op.Code, Name: op.Name,
		Organization: op.Organization, Project: op.Project, Secrets: op.Secrets,
		Changing: op.Changing, Secured: op.Secured, Sensitive: op.Sensitive, Born: op.Born,
		Transfers: op.Transfers, Offers: op.Offers,
	}
	switch {
	case op.Method == "" || op.Path == "":
		return o, errors.New("reading an operation without method or path: give it both")
	case !methodForm.MatchString(op.Method):
		return o, fmt.Errorf("reading method %.40q: give one method of HTTP, as in POST", op.Method)
	case len(op.Path) > maxTemplate:
		return o, fmt.Errorf("reading path %.40q…: it is longer than %d bytes", op.Path, maxTemplate)
	}
	if err := audit.CheckTemplate(op.Path); err != nil {
		return o, fmt.Errorf("reading path %q: %w", op.Path, err)
	}
	if op.Target != nil {
		o.Target = &audit.TargetRule{Type: op.Target.Type, ID: op.Target.ID, Parent: op.Target.Parent}
		if op.Target.Type == "" && *op.Target != (target{}) {
			return o, errors.New("reading a target without a type: give it one, as in type: order")
		}
		if err := oneLineOf("target type", &op.Target.Type, maxName); err != nil {
			return o, err
		}
	}
	if c := op.Capture; c != nil {
		o.Capture = &audit.Capture{Body: c.Body, Query: c.Query, Header: c.Header, Response: c.Response}
	}
	for _, err := range []error{oneLineOf("code", op.Code, maxCode), oneLineOf("name", op.Name, maxName), oneLineOf("born", op.Born, maxTemplate)} {
		if err != nil {
			return o, err
		}
	}
	return o, nil
}

// oneLineOf refuses what could not stand in one line of an entry.
func oneLineOf(field string, s *string, limit int) error {
	if s == nil || utf8.RuneCountInString(*s) <= limit && !strings.ContainsFunc(*s, unicode.IsControl) {
		return nil
	}
	return fmt.Errorf("reading %s %.40q: write at most %d characters in one line", field, *s, limit)
}

var unknownField = regexp.MustCompile(`field ([^;]+) not found in type description\.(\w+)`)

// plain is YAML's error in one line and without the names of our types.
func plain(err error) error {
	said := strings.TrimPrefix(err.Error(), "yaml: ")
	if typed, ok := errors.AsType[*yaml.TypeError](err); ok {
		said = strings.Join(typed.Errors[:min(len(typed.Errors), 3)], "; ")
	}
	said = unknownField.ReplaceAllStringFunc(said, func(found string) string {
		m := unknownField.FindStringSubmatch(found)
		return fmt.Sprintf("%q is not a field here: choose from %s", m[1], known[m[2]])
	})
	for part, called := range map[string]string{"operation": "an operation", "target": "a target, as in {type: order, id: order_id}", "capture": "a capture, as in {body: [name]}", "file": "a catalog, as in operations: [...]"} {
		said = strings.ReplaceAll(said, "into description."+part, "into "+called)
	}
	if len(said) > 2*maxWarning {
		said = strings.ToValidUTF8(said[:2*maxWarning], "") + "…"
	}
	return fmt.Errorf("reading it as YAML: %s", said)
}
