// Package placeholder is how the stores read options that hold a credential. These
// stand in no configuration: Caddy saves it, prints it and gives it to whoever may
// ask the admin endpoint.
package placeholder

import (
	"fmt"
	"regexp"

	"github.com/caddyserver/caddy/v2"
)

// form is one placeholder and nothing beside it, which is how a credential is given.
var form = regexp.MustCompile(`^\{(env\.[A-Za-z_][A-Za-z0-9_]*|file\.[^{}]+)\}$`)

// Is reports whether a value is one placeholder that a credential may come from.
func Is(value string) bool { return form.MatchString(value) }

// Has reports whether there is such a placeholder anywhere in a value, as in
// "Bearer {env.TOKEN}".
func Has(value string) bool { return inside.MatchString(value) }

var inside = regexp.MustCompile(`\{(env\.[A-Za-z_][A-Za-z0-9_]*|file\.[^{}]+)\}`)

// Replace returns what a value's placeholders stand for at this moment. It is asked
// when a store is opened and not before, so that a credential that has changed is
// found, and none stays in the configuration. The error names the placeholder and
// never what it stands for.
func Replace(value string) (string, error) {
	s, err := caddy.NewReplacer().ReplaceOrErr(value, true, true)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", value, err)
	}
	return s, nil
}
