package stores

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/syntax"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// Parse reads a store. The options that all stores have in common stand among the
// store's own, and are taken out before it is asked for those.
func Parse(d *caddyfile.Dispenser) (*StoreConfig, error) {
	c := &StoreConfig{DefinedAt: syntax.At(d)}
	all := caddyfile.NewDispenser(d.NextSegment())
	all.Next() // consume option name
	if !all.NextArg() {
		return nil, d.Errf("store takes a kind, as in: store sqlite ./audit-data/audit.db")
	}
	kind := all.Val()
	id := "audit_log.stores." + kind
	if _, err := caddy.GetModule(id); err != nil {
		return nil, d.Errf("there is no store %q in this build: it has %s", kind, storeKinds())
	}
	own := []caddyfile.Token{all.Token()}
	for all.NextArg() {
		own = append(own, all.Token())
	}
	block := false
	for all.NextBlock(0) {
		if !block {
			// The braces as they stand there: a new one would belong to no import, and a
			// copy of another token could count as quoted.
			block = true
			all.Prev()
			own = append(own, all.Token())
			all.Next()
		}
		common, err := c.option(all)
		if err != nil {
			return nil, err
		}
		if !common {
			own = append(own, all.NextSegment()...)
		}
	}
	if block {
		own = append(own, all.Token())
	}
	mod, err := caddyfile.UnmarshalModule(dispenserOf(own), id)
	if err != nil {
		return nil, err
	}
	c.StoreRaw = caddyconfig.JSONModuleObject(mod, "kind", kind, nil)
	return c, nil
}

// dispenserOf is a dispenser at the first of the tokens, as a module expects it.
func dispenserOf(tokens []caddyfile.Token) *caddyfile.Dispenser {
	d := caddyfile.NewDispenser(tokens)
	d.Next()
	return d
}

func storeKinds() string {
	var kinds []string
	for _, m := range caddy.GetModules("audit_log.stores") {
		kinds = append(kinds, m.ID.Name())
	}
	return fmt.Sprint(kinds)
}

// option reads an option that all stores have, and reports whether it is one.
func (c *StoreConfig) option(d *caddyfile.Dispenser) (bool, error) {
	option := d.Val()
	switch option {
	case "name", "detachable", "from", "format", "batch", "only", "except":
	default:
		return false, nil
	}
	args := d.RemainingArgs()
	if len(args) == 0 || len(args) > 1 && option != "only" && option != "except" && option != "batch" {
		return false, d.Errf("%s takes %s", option, map[string]string{
			"name": "one name, as in: name siem", "detachable": "one part of the buffer, as in: detachable 20%",
			"from": "oldest or now", "format": "native or ocsf", "batch": "a number of entries, as in: batch 250 1s",
			"only":   "what it is about and values, as in: only organization acme",
			"except": "what it is about and values, as in: except action audit.heartbeat",
		}[option])
	}
	var err error
	switch option {
	case "name":
		c.Name = args[0]
	case "from":
		c.From = args[0]
	case "format":
		c.Format = args[0]
	case "detachable":
		c.Detachable, err = parsePart(args[0])
	case "batch":
		err = c.batch(args)
	case "only":
		err = condition(&c.Only, args)
	case "except":
		err = condition(&c.Except, args)
	}
	if err != nil {
		return false, d.Errf("%s %w", option, err)
	}
	return true, nil
}

// parsePart reads a percentage.
func parsePart(s string) (float64, error) {
	number, ok := strings.CutSuffix(s, "%")
	n, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(n > 0 && n <= 100) {
		return 0, fmt.Errorf("%q is not a percentage above 0 and at most 100: write it as in 20%%", s)
	}
	return n / 100, nil
}

func (c *StoreConfig) batch(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil || n <= 0 || len(args) > 2 {
		return fmt.Errorf("%q: it is a number of entries above zero and how long they may wait, as in: batch 250 1s", strings.Join(args, " "))
	}
	c.BatchEntries = n
	if len(args) == 2 {
		c.BatchWait, err = syntax.Duration(args[1])
	}
	return err
}

func condition(c *forwarder.Conditions, args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("%q: values are missing, as in: organization acme", args[0])
	}
	switch values := args[1:]; args[0] {
	case "organization":
		c.Organizations = append(c.Organizations, values...)
	case "action":
		c.Actions = append(c.Actions, values...)
	case "level":
		for _, v := range values {
			c.Levels = append(c.Levels, audit.Level(v))
		}
	case "outcome":
		for _, v := range values {
			c.Outcomes = append(c.Outcomes, audit.Outcome(v))
		}
	default:
		return fmt.Errorf("%q: it is organization, action, level or outcome", args[0])
	}
	return nil
}
