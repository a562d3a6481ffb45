package commands

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/spf13/cobra"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/catalogs"
	"github.com/caddy-audit-log/caddy-audit-log/internal/display"
)

func catalogCommand() *cobra.Command {
	var p place
	var q catalogQuestion
	cmd := &cobra.Command{
		Use:   "catalog [<method> <path> | --uncovered] [--site <name>] [--json]",
		Short: "Shows what a call is taken for, and why",
		Long: `
Prints what a call of that method and path resolves to at each site with
audit_log: its route, what it is called, what it is done to and which rule,
segment or catalog says so, or that no catalog knows it and what is made of it
all the same. The path is as a client sends it, escaped; of a URL the path counts.

With --uncovered it lists the operations that have no target, for which a
catalog file can name one. Neither needs a running server: the configuration is
read, with the descriptions that it names.`,
		Example: `  caddy audit catalog DELETE /v1/projects/abcdefghijklmnopqrst/functions/hello
  caddy audit catalog GET /orders/123 --site api.example.com --json
  caddy audit catalog --uncovered
  caddy audit catalog --uncovered --json`,
		Args: func(_ *cobra.Command, args []string) error { return q.read(args) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			sites, err := p.sites(q.site, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			for _, s := range sites {
				if err := q.answer(out, s); err != nil {
					return err
				}
			}
			return out.Flush()
		},
	}
	// No --address: no server is asked.
	cmd.Flags().StringVarP(&p.config, "config", "c", "", "The configuration (default: ./Caddyfile)")
	cmd.Flags().StringVarP(&p.adapter, "adapter", "a", "", "The configuration's adapter (default: by its name)")
	cmd.Flags().BoolVar(&q.uncovered, "uncovered", false, "List the operations without a target")
	cmd.Flags().StringVar(&q.site, "site", "", "Only sites whose host, address or place in the configuration has this in it")
	cmd.Flags().BoolVar(&q.asJSON, "json", false, "Print JSON, one object a line")
	return cmd
}

// catalogQuestion is what the command is asked.
type catalogQuestion struct {
	method, path      string
	site              string
	uncovered, asJSON bool
}

func (q *catalogQuestion) read(args []string) error {
	switch {
	case q.uncovered && len(args) == 0:
		return nil
	case q.uncovered:
		return errors.New("reading the arguments: give --uncovered, or a method and a path")
	case len(args) != 2:
		return errors.New("reading the arguments: give a method and a path, as in: caddy audit catalog GET /orders/123")
	}
	path, _, _ := strings.Cut(args[1], "?")
	if u, err := url.Parse(path); err == nil && catalogs.IsURL(path) {
		path = cmp.Or(u.EscapedPath(), "/")
	}
	if !strings.HasPrefix(path, "/") || strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return fmt.Errorf("reading the path %q: begin it with a slash, and escape what a client would, as in /a%%20b", args[1])
	}
	q.method, q.path = strings.ToUpper(args[0]), path
	return nil
}

func (q *catalogQuestion) answer(w io.Writer, s *catalogSite) error {
	if !q.uncovered {
		r := s.resolve(q.method, q.path)
		if q.asJSON {
			return json.NewEncoder(w).Encode(r)
		}
		r.print(w)
		return nil
	}
	operations, all := s.uncovered()
	if q.asJSON {
		for _, op := range operations {
			line := map[string]string{"site": s.name, "method": op.Method, "template": op.Template, "code": op.Code, "name": op.Name}
			if err := json.NewEncoder(w).Encode(line); err != nil {
				return err
			}
		}
		return nil
	}
	fmt.Fprintf(w, "%s: %d of %d operations have no target\n", display.Printable(s.title()), len(operations), all)
	for _, op := range operations {
		fmt.Fprintln(w, display.Printable(strings.TrimRight(fmt.Sprintf("  %-7s %s  %s", op.Method, op.Template, op.Code), " ")))
	}
	return nil
}

// catalogSite is a site with audit_log, of which nothing is provisioned.
type catalogSite struct {
	name, definedAt string
	rules           []siteRule
	handler         Site
	// catalogued is nil until the catalogs are read.
	*Catalogued
}

// siteRule is a rule as it stands in a configuration.
type siteRule struct {
	Name       string                   `json:"name"`
	Level      audit.Level              `json:"level"`
	Durability audit.Durability         `json:"durability"`
	Matchers   caddyhttp.RawMatcherSets `json:"match"`
}

func (s *catalogSite) title() string {
	if s.definedAt == "" {
		return s.name
	}
	return s.name + " (" + s.definedAt + ")"
}

// sites are those of the configuration whose name, or place in it, has a text
// in it.
func (p *place) sites(with string, messages io.Writer) ([]*catalogSite, error) {
	body, err := p.load()
	if err != nil {
		return nil, err
	}
	all, err := findSites(body)
	if err != nil {
		return nil, err
	}
	chosen := slices.DeleteFunc(slices.Clone(all), func(s *catalogSite) bool { return !strings.Contains(s.title(), with) })
	switch {
	case len(all) == 0:
		return nil, errors.New("reading the configuration: no site has audit_log: add it to the one before the API")
	case len(chosen) == 0:
		var names []string
		for _, s := range all {
			names = append(names, s.title())
		}
		return nil, fmt.Errorf("finding the site %q: those with audit_log are %s", with, strings.Join(names, ", "))
	}
	from := new(catalogs.Descriptions)
	log := slog.New(slog.NewTextHandler(messages, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	for _, s := range chosen {
		if err := s.read(from, log); err != nil {
			return nil, err
		}
	}
	return chosen, nil
}

func (s *catalogSite) read(from *catalogs.Descriptions, log *slog.Logger) (err error) {
	s.Catalogued, err = s.handler.Catalogue(from, log)
	return err
}

// findSites finds the handlers of an adapted configuration.
func findSites(config []byte) ([]*catalogSite, error) {
	var c struct {
		Apps struct {
			HTTP struct {
				Servers map[string]struct {
					Listen []string        `json:"listen"`
					Routes json.RawMessage `json:"routes"`
					Named  json.RawMessage `json:"named_routes"`
				} `json:"servers"`
			} `json:"http"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	f := new(siteFinder)
	for _, name := range slices.Sorted(maps.Keys(c.Apps.HTTP.Servers)) {
		server := c.Apps.HTTP.Servers[name]
		for _, routes := range []json.RawMessage{server.Routes, server.Named} {
			if err := f.walk(routes, strings.Join(server.Listen, ", "), 0); err != nil {
				return nil, err
			}
		}
	}
	return f.sites, nil
}

type siteFinder struct{ sites []*catalogSite }

// walk looks through lists and objects, and takes the hosts of the innermost
// route for the site's name. How deep handlers of others nest their routes is
// theirs to say.
func (f *siteFinder) walk(raw json.RawMessage, name string, depth int) error {
	var list []json.RawMessage
	if depth > deepest {
		return errors.New("reading the configuration: its routes are nested too deeply")
	}
	if json.Unmarshal(raw, &list) == nil {
		for _, item := range list {
			if err := f.walk(item, name, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(raw, &fields) // of what is no object there are none
	if string(fields["handler"]) == `"audit_log"` {
		h, err := newSite()
		if err == nil {
			err = json.Unmarshal(raw, h)
		}
		if err != nil {
			return fmt.Errorf("reading the configuration: the audit_log of %s: %w", name, err)
		}
		var has struct {
			DefinedAt string     `json:"defined_at"`
			Rules     []siteRule `json:"rules"`
		}
		_ = json.Unmarshal(raw, &has) // it was read
		f.sites = append(f.sites, &catalogSite{name: name, definedAt: has.DefinedAt, rules: has.Rules, handler: h})
		return nil
	}
	var match []struct {
		Host []string `json:"host"`
	}
	if json.Unmarshal(fields["match"], &match) == nil {
		var hosts []string
		for _, m := range match {
			hosts = append(hosts, m.Host...)
		}
		name = cmp.Or(strings.Join(hosts, ", "), name)
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		if err := f.walk(fields[key], name, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (s *catalogSite) uncovered() (found []*audit.Operation, all int) {
	for op := range s.Platform.Catalog.Operations() {
		if all++; op.Target.Type == "" {
			found = append(found, op)
		}
	}
	slices.SortFunc(found, func(a, b *audit.Operation) int {
		return cmp.Or(cmp.Compare(a.Template, b.Template), cmp.Compare(a.Method, b.Method))
	})
	return found, all
}

// resolution is what a call is taken for, and why.
type resolution struct {
	Site      string `json:"site"`
	DefinedAt string `json:"defined_at,omitempty"`
	Method    string `json:"method"`
	Path      string `json:"path"` // as it is recorded
	// Known says that a catalog has the route, and MethodMiss that it has it for
	// other methods only.
	Known       bool     `json:"known"`
	MethodMiss  bool     `json:"method_miss,omitempty"`
	DescribedBy []string `json:"described_by,omitempty"`

	Template     string        `json:"template,omitempty"`
	Code         string        `json:"code,omitempty"`
	Name         string        `json:"name,omitempty"`
	Target       *audit.Target `json:"target,omitempty"`
	TargetFrom   []string      `json:"target_from,omitempty"`
	Organization string        `json:"organization,omitempty"`
	Project      string        `json:"project,omitempty"`
	Secrets      []string      `json:"secrets,omitempty"`
	Changing     bool          `json:"changing"`
	ChangingFrom string        `json:"changing_from"`
	Secured      bool          `json:"secured"`
	Sensitive    bool          `json:"sensitive"`
	Captures     []string      `json:"captures,omitempty"`
	Born         string        `json:"born,omitempty"`

	title string
}

// resolve asks what would be recorded of the call, so that it cannot differ.
func (s *catalogSite) resolve(method, path string) *resolution {
	p := s.Platform
	d := audit.Deriver{Platform: p, Key: new(audit.TokenKey)}
	e, facts := d.Intent(&audit.Call{Arrived: time.Now(), Method: method, Path: path, Bytes: -1})
	r := &resolution{
		Site: s.name, DefinedAt: s.definedAt, title: s.title(), Method: method, Path: e.Action.Path,
		Template: e.Action.Route, Code: e.Action.Code, Name: e.Action.Name, Target: e.Target,
		Organization: e.OrganizationSlug, Project: e.ProjectRef, Changing: facts.Changing,
	}
	var m audit.Match
	r.Known = p.Catalog.Match(method, path, &m)
	r.MethodMiss = m.MethodMiss
	r.ChangingFrom = "the method " + method
	if !r.Known {
		return r
	}
	op := m.Operation
	if op.Changing {
		r.ChangingFrom = "the catalog"
	}
	r.Secrets, r.Secured, r.Sensitive, r.Born = op.Secrets, op.Secured, op.Sensitive, op.Born
	r.Captures = captureWords(&op.Capture)
	if r.MethodMiss {
		return r
	}
	r.DescribedBy = s.describedBy(op)
	r.TargetFrom = s.targetFrom(op)
	return r
}

func captureWords(c *audit.Capture) []string {
	var words []string
	for _, part := range []struct {
		name  string
		paths []string
	}{{"body", c.Body}, {"query", c.Query}, {"header", c.Header}, {"response", c.Response}} {
		for _, path := range part.paths {
			words = append(words, part.name+" "+path)
		}
	}
	return words
}

// describedBy are the catalogs that have the operation, each over the one before.
func (s *catalogSite) describedBy(op *audit.Operation) []string {
	key := audit.SameRoute(op.Method, op.Template)
	var found []string
	for o := range s.Base.Catalog.Operations() {
		if audit.SameRoute(o.Method, o.Template) == key {
			found = append(found, "platform "+s.Base.Name)
		}
	}
	for _, c := range s.Content {
		if where, ok := c.Has(key); ok {
			found = append(found, strings.TrimSpace(c.Title()+" "+where))
		}
	}
	return found
}

// targetFrom says where the target's type and ids come from.
func (s *catalogSite) targetFrom(op *audit.Operation) []string {
	if op.Target.Type == "" {
		return []string{s.typeFrom(op)}
	}
	from := []string{"type: " + s.typeFrom(op)}
	segments := strings.Split(strings.TrimPrefix(op.Template, "/"), "/")
	for _, id := range []struct{ what, name string }{{"id", op.Target.ID}, {"parent", op.Target.Parent}} {
		if i := slices.Index(segments, "{"+id.name+"}"); id.name != "" && i >= 0 {
			from = append(from, fmt.Sprintf("%s: segment %d, {%s}", id.what, i+1, id.name))
		}
	}
	return from
}

// typeFrom is the last catalog file that names a target, or else the rules.
func (s *catalogSite) typeFrom(op *audit.Operation) string {
	key := audit.SameRoute(op.Method, op.Template)
	for _, c := range slices.Backward(s.Content) {
		if at, ok := c.Targets(key); ok {
			return c.Title() + ", " + at
		}
		if _, ok := c.Has(key); ok && c.IsOpenAPI() {
			break
		}
	}
	return s.Platform.Why(op)
}

func (r *resolution) print(w io.Writer) {
	line := func(label, format string, args ...any) {
		fmt.Fprintln(w, strings.TrimRight(display.Printable(fmt.Sprintf("%-13s", label)+fmt.Sprintf(format, args...)), " "))
	}
	yes := func(b bool) string { return map[bool]string{true: "yes", false: "no"}[b] }
	line("site", "%s", r.title)
	line("call", "%s %s", r.Method, r.Path)
	switch {
	case !r.Known:
		line("template", "%s", "unknown: no catalog has it")
		line("by its form", "%s", cmp.Or(r.Template, "nothing: the path has an empty or a dot segment, or is too long"))
	case r.MethodMiss:
		line("template", "%s, of which no catalog knows the method %s", r.Template, r.Method)
	default:
		line("template", "%s", r.Template)
		line("", "from %s", strings.Join(r.DescribedBy, ", then "))
		line("code", "%s", cmp.Or(r.Code, "none"))
		line("name", "%s", cmp.Or(r.Name, "none"))
	}
	target := "none"
	if r.Target != nil {
		target = display.Target(r.Target)
	}
	line("target", "%s", target)
	for _, from := range r.TargetFrom {
		line("", "%s", from)
	}
	for _, field := range []struct{ name, value string }{{"organization", r.Organization}, {"project", r.Project}, {"credentials", strings.Join(r.Secrets, ", ")}} {
		if field.value != "" {
			line(field.name, "%s", field.value)
		}
	}
	line("changing", "%s, by %s", yes(r.Changing), r.ChangingFrom)
	if r.Known {
		line("secured", "%s", yes(r.Secured))
		line("sensitive", "%s", yes(r.Sensitive))
		line("captures", "%s", cmp.Or(strings.Join(r.Captures, ", "), "nothing"))
	}
	if r.Born != "" {
		line("born", "%s of the answer is the target's id", r.Born)
	}
}
