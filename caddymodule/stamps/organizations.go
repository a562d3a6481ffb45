package stamps

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/syntax"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/attribution"
	"github.com/caddy-audit-log/caddy-audit-log/identity"
)

// Organizations say to which organization a call belongs and which plan that has, where
// neither the call nor its answer says so. Nobody is asked on a call's way: entries are
// stamped when they are delivered.
type Organizations struct {
	// Plans are the plans of organizations, by id or slug. These are not asked for.
	// Default: none.
	Plans map[string]string `json:"plans,omitempty"`

	// Project says whose a project is. It is asked only about projects that a verified
	// caller did something with, and that look like one. Default: it is not asked.
	Project *OrganizationLookup `json:"project,omitempty"`

	// Organization says which plan an organization has. Default: it is not asked.
	Organization *OrganizationLookup `json:"organization,omitempty"`

	// Supabase is the base URL of that platform's Management API, or of one like it: then
	// Project and Organization need not be given. Placeholders are replaced when it is
	// loaded. Default: it is not asked.
	//
	// Caddyfile: lookup supabase <url>
	Supabase string `json:"supabase,omitempty"`

	// Token is sent with each question as a bearer token: one placeholder, {env.NAME} or
	// {file./path}, so that it stands in no configuration. It must be allowed to read
	// every project and organization, and nothing else. One that was replaced in its file
	// is found. Default: none.
	Token string `json:"token,omitempty"`

	// TTL is how long an answer is believed; a plan that has changed is found within that,
	// and entries that were recorded meanwhile are kept longer if the new one keeps
	// longer. Default: 1h.
	TTL caddy.Duration `json:"ttl,omitempty"`

	// NegativeTTL is how long it is believed that there is no such project or
	// organization. Default: 5m.
	NegativeTTL caddy.Duration `json:"negative_ttl,omitempty"`

	// Rate bounds the questions in a second. Default: 10.
	Rate float64 `json:"rate,omitempty"`

	// DefinedAt is the file and line of these options, for error messages. Default: in a
	// Caddyfile where they stand, else nothing.
	//
	// Caddyfile: none
	DefinedAt string `json:"defined_at,omitempty"`
}

// OrganizationLookup is a service that is asked about one thing by its name.
type OrganizationLookup struct {
	// URL is where it is asked, by GET, with one parameter in its path, as in
	// https://api.example.com/v1/projects/{ref}: the name takes its place. A redirect is
	// not followed, and more than 1 MiB are not read. It must not lead through this
	// sidecar. Placeholders are replaced when it is loaded. Required.
	//
	// Caddyfile: project <url>, or organization <url>
	URL string `json:"url"`

	// ID is the path of the organization's id in the answer: names joined by dots. One of
	// the three paths must be there. Default: it is not looked for.
	ID string `json:"id,omitempty"`

	// Slug is the path of its slug. Default: it is not looked for.
	Slug string `json:"slug,omitempty"`

	// Plan is the path of its plan. Default: it is not looked for.
	Plan string `json:"plan,omitempty"`
}

// paramForm is the parameter of a lookup's URL, which is no placeholder.
var paramForm = regexp.MustCompile(`\{([a-z_]{1,16})\}`)

// Wrong is an error about these options that says where they stand.
func (o *Organizations) Wrong(format string, args ...any) error {
	err := fmt.Errorf("audit_log organizations: "+format, args...)
	if o.DefinedAt != "" {
		err = fmt.Errorf("%s: %w", o.DefinedAt, err)
	}
	return err
}

// Lookups are what is asked, with what only the machine knows.
func (o *Organizations) Lookups() (projects, organizations *attribution.Lookup, err error) {
	var token func() (string, error)
	if o.Token != "" {
		if err := syntax.CheckSecret(o.Token); err != nil {
			return nil, nil, o.Wrong("token: %w", err)
		}
		token = func() (string, error) {
			value, err := caddy.NewReplacer().ReplaceOrErr(o.Token, true, true)
			if err != nil {
				return "", fmt.Errorf("token %s has no value: %w", o.Token, err)
			}
			return strings.TrimSpace(value), nil
		}
	}
	replaced := func(address string) (string, error) {
		// The parameter is no placeholder.
		address, err := caddy.NewReplacer().ReplaceOrErr(paramForm.ReplaceAllString(address, "\x00$1\x01"), true, true)
		return strings.NewReplacer("\x00", "{", "\x01", "}").Replace(address), err
	}
	if o.Supabase != "" {
		base, err := replaced(o.Supabase)
		if err != nil {
			return nil, nil, o.Wrong("lookup supabase: %w", err)
		}
		projects, organizations = attribution.Supabase(base, token)
	}
	for _, l := range []struct {
		name string
		c    *OrganizationLookup
		to   **attribution.Lookup
	}{{"project", o.Project, &projects}, {"organization", o.Organization, &organizations}} {
		if l.c == nil {
			continue
		}
		address, err := replaced(l.c.URL)
		if err != nil {
			return nil, nil, o.Wrong("%s: %w", l.name, err)
		}
		*l.to = &attribution.Lookup{URL: address, ID: l.c.ID, Slug: l.c.Slug, Plan: l.c.Plan, Token: token}
	}
	return projects, organizations, nil
}

// Lines describe them for a reader of audit.config_changed: they say whose an entry is.
func (o *Organizations) Lines() (lines []string) {
	if o == nil {
		return nil
	}
	if o.Supabase != "" {
		lines = append(lines, "organizations supabase "+identity.WithoutQuery(o.Supabase))
	}
	for name, l := range map[string]*OrganizationLookup{"project": o.Project, "organization": o.Organization} {
		if l != nil {
			lines = append(lines, fmt.Sprintf("organizations %s %s id %s slug %s plan %s", name, identity.WithoutQuery(l.URL), l.ID, l.Slug, l.Plan))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.Plans)) {
		lines = append(lines, fmt.Sprintf("organizations %s has plan %s", name, o.Plans[name]))
	}
	return lines
}

// Asked are the lookups there are, by the URLs that they ask, with a name in the place of
// the parameter.
func (o *Organizations) Asked() map[string]*attribution.Lookup {
	projects, organizations, err := o.Lookups()
	if err != nil {
		return nil // checkOrganizations says so
	}
	asked := map[string]*attribution.Lookup{}
	for _, l := range []*attribution.Lookup{projects, organizations} {
		if l != nil {
			asked[strings.NewReplacer("{", "", "}", "").Replace(l.URL)] = l
		}
	}
	return asked
}

// AsksInClear says that the token goes over the network in clear.
func (o *Organizations) AsksInClear() bool {
	if o == nil || o.Token == "" {
		return false
	}
	for address := range o.Asked() {
		if syntax.InClear(address) {
			return true
		}
	}
	return false
}

// ParseOrganizations reads whose calls are; see parseGlobal.
func ParseOrganizations(d *caddyfile.Dispenser) (*Organizations, error) {
	o := &Organizations{DefinedAt: syntax.At(d)}
	if d.NextArg() {
		return nil, d.Errf("organizations takes no argument %q: put its options into a block", d.Val())
	}
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if seen[option] && option != "plan" {
			return nil, d.Errf("there is a %s already: remove one", option)
		}
		seen[option] = true
		if err := o.option(d, option); err != nil {
			return nil, err
		}
	}
	return o, nil
}

func (o *Organizations) option(d *caddyfile.Dispenser, option string) error {
	args := d.RemainingArgs()
	one := func() (string, error) {
		if len(args) != 1 {
			return "", d.Errf("%s takes one argument", option)
		}
		return args[0], nil
	}
	var value string
	var err error
	switch option {
	case "lookup":
		if len(args) != 2 || args[0] != "supabase" {
			return d.Errf("lookup takes a platform and its base URL, as in: lookup supabase https://api.supabase.com; for another API give project and organization")
		}
		o.Supabase = args[1]
	case "project", "organization":
		l := &OrganizationLookup{}
		if l.URL, err = one(); err != nil {
			return err
		}
		if err := l.block(d, option); err != nil {
			return err
		}
		if option == "project" {
			o.Project = l
		} else {
			o.Organization = l
		}
	case "plan":
		if len(args) < 2 {
			return d.Errf("plan takes a plan and the organizations that have it, as in: plan enterprise acme globex")
		}
		if o.Plans == nil {
			o.Plans = map[string]string{}
		}
		for _, name := range args[1:] {
			if before, there := o.Plans[name]; there {
				return d.Errf("organization %s has the plan %s already: remove one", name, before)
			}
			o.Plans[name] = args[0]
		}
	case "token":
		if o.Token, err = one(); err == nil {
			if err := syntax.CheckSecret(o.Token); err != nil {
				return d.Errf("token: %w", err)
			}
		}
		return err
	case "ttl", "negative_ttl":
		if value, err = one(); err != nil {
			return err
		}
		to := &o.TTL
		if option == "negative_ttl" {
			to = &o.NegativeTTL
		}
		if *to, err = syntax.Duration(value); err != nil {
			return d.Errf("%s %w", option, err)
		}
	case "rate":
		if value, err = one(); err != nil {
			return err
		}
		if _, err := fmt.Sscanf(value+"\n", "%g\n", &o.Rate); err != nil || o.Rate <= 0 {
			return d.Errf("rate %q: it is a number above zero, of questions in a second", value)
		}
	default:
		return d.Errf("%q is not an option of organizations: this version knows lookup, project, organization, plan, token, ttl, negative_ttl and rate", option)
	}
	return nil
}

func (l *OrganizationLookup) block(d *caddyfile.Dispenser, where string) error {
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		to := map[string]*string{"id": &l.ID, "slug": &l.Slug, "plan": &l.Plan}[option]
		if to == nil {
			return d.Errf("%q is not an option of %s: this version knows id, slug and plan", option, where)
		}
		if !d.AllArgs(to) {
			return d.Errf("%s takes one argument, the path in the answer, as in: %s organization.%s", option, option, option)
		}
	}
	if l.ID+l.Slug+l.Plan == "" {
		return d.Errf("%s: say where in the answer the organization's id, slug or plan stands", where)
	}
	return nil
}
