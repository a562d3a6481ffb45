package stamps

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/syntax"
)

// KeepConfig says how long entries exist.
type KeepConfig struct {
	audit.Keep

	// DefinedAt is the file and line of these options, for error messages. Default: in a
	// Caddyfile where they stand, else nothing.
	//
	// Caddyfile: none
	DefinedAt string `json:"defined_at,omitempty"`
}

// Check says where it stands what is wrong with it.
func (c *KeepConfig) Check() error {
	if c == nil {
		return nil
	}
	if err := c.Keep.Check(); err != nil {
		err = fmt.Errorf("audit_log keep: %w", err)
		if c.DefinedAt != "" {
			err = fmt.Errorf("%s: %w", c.DefinedAt, err)
		}
		return err
	}
	return nil
}

// Lines describe the terms for a reader of audit.config_changed.
func (c *KeepConfig) Lines() []string {
	if c == nil {
		return []string{"keep forever"}
	}
	var lines []string
	for _, name := range c.Names() {
		line := fmt.Sprintf("keep %s %s", name, c.Term(name))
		if i := slices.IndexFunc(c.Classes, func(k audit.KeepClass) bool { return k.Name == name }); i >= 0 {
			k := &c.Classes[i]
			line = fmt.Sprintf("keep class %d %s %s", i+1, name, k.Term)
			for _, m := range keepMatchers {
				if values := *m.of(k); len(values) > 0 {
					line += " " + m.name + " " + strings.Join(values, " ")
				}
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// keepMatcher is what a class may be chosen by.
type keepMatcher struct {
	name string
	of   func(*audit.KeepClass) *[]string
}

var keepMatchers = []keepMatcher{
	{"plan", func(k *audit.KeepClass) *[]string { return &k.Plans }},
	{"action", func(k *audit.KeepClass) *[]string { return &k.Actions }},
	{"target", func(k *audit.KeepClass) *[]string { return &k.Targets }},
	{"organization", func(k *audit.KeepClass) *[]string { return &k.Organizations }},
}

// ParseKeep reads how long entries exist; see parseGlobal.
func ParseKeep(d *caddyfile.Dispenser) (*KeepConfig, error) {
	c := &KeepConfig{DefinedAt: syntax.At(d)}
	if d.NextArg() {
		return nil, d.Errf("keep takes no argument %q: put its terms into a block, as in: keep { default 400d }", d.Val())
	}
	terms := map[string]*audit.Term{
		"default": &c.Default, "unattributed": &c.Unattributed, "sidecar": &c.Sidecar, "minimum": &c.Minimum, "maximum": &c.Maximum,
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if option == "class" {
			class, err := parseKeepClass(d)
			if err != nil {
				return nil, err
			}
			c.Classes = append(c.Classes, class)
			continue
		}
		term := terms[option]
		if term == nil {
			return nil, d.Errf("%q is not an option of keep: this version knows default, unattributed, sidecar, minimum, maximum and class", option)
		}
		var value string
		if !d.AllArgs(&value) {
			return nil, d.Errf("%s takes one argument, a term, as in: %s 400d", option, option)
		}
		if !term.IsZero() {
			return nil, d.Errf("%s is there already: remove one", option)
		}
		var err error
		if *term, err = audit.ParseTerm(value); err != nil {
			return nil, d.Errf("%s %w", option, err)
		}
	}
	return c, nil
}

// parseKeepClass reads a class, whose conditions stand behind it or in its block.
func parseKeepClass(d *caddyfile.Dispenser) (k audit.KeepClass, err error) {
	args := d.RemainingArgs()
	if len(args) < 2 || len(args) == 3 {
		return k, d.Errf("class takes a name, a term and what belongs to it, as in: class team 400d plan team")
	}
	k.Name = args[0]
	if k.Term, err = audit.ParseTerm(args[1]); err != nil {
		return k, d.Errf("class %s: %w", k.Name, err)
	}
	add := func(option string, values []string) error {
		i := slices.IndexFunc(keepMatchers, func(m keepMatcher) bool { return m.name == option })
		if i < 0 {
			return d.Errf("%q is not an option of class: this version knows plan, action, target and organization", option)
		}
		if len(values) == 0 {
			return d.Errf("%s takes one argument or more", option)
		}
		of := keepMatchers[i].of(&k)
		*of = append(*of, values...)
		return nil
	}
	if len(args) > 2 {
		if err := add(args[2], args[3:]); err != nil {
			return k, err
		}
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if err := add(option, d.RemainingArgs()); err != nil {
			return k, err
		}
	}
	return k, nil
}

// ParseReadable reads how far back plans may read; see parseGlobal.
func ParseReadable(d *caddyfile.Dispenser) (*audit.Readable, error) {
	r := &audit.Readable{Plans: map[string]audit.Range{}}
	if d.NextArg() {
		return nil, d.Errf("readable takes no argument %q: put its plans into a block, as in: readable { team 62d }", d.Val())
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		plans := append([]string{d.Val()}, d.RemainingArgs()...)
		if len(plans) < 2 {
			return nil, d.Errf("readable takes plans and how far back they may read, as in: team 62d")
		}
		var span audit.Range
		if last := plans[len(plans)-1]; last != "none" {
			term, err := audit.ParseTerm(last)
			if err != nil {
				return nil, d.Errf("readable %s: %w; none is nothing", plans[0], err)
			}
			span.Term = term
		}
		for _, plan := range plans[:len(plans)-1] {
			if _, there := r.Plans[plan]; there || plan == "default" && r.Default != nil {
				return nil, d.Errf("readable %s is there already: remove one", plan)
			}
			if plan == "default" {
				r.Default = &span
			} else {
				r.Plans[plan] = span
			}
		}
	}
	return r, nil
}

// ReadableLines describe it for a reader of audit.config_changed.
func ReadableLines(r *audit.Readable) []string {
	if r == nil {
		return nil
	}
	var lines []string
	for _, plan := range slices.Sorted(maps.Keys(r.Plans)) {
		lines = append(lines, fmt.Sprintf("readable %s %s", plan, shownRange(r.Plans[plan])))
	}
	if r.Default != nil {
		lines = append(lines, "readable default "+shownRange(*r.Default))
	}
	return lines
}

func shownRange(r audit.Range) string { return cmp.Or(r.Term.String(), "none") }
