package main

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
)

// maker makes up values. Everything it makes is random, so that a value found
// where it should not be was put there, and is no coincidence.
type maker struct{ rnd *rand.Rand }

const (
	lower = "abcdefghijklmnopqrstuvwxyz"
	hex   = "0123456789abcdef"
)

func (m maker) letters(n int, alphabet string) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[m.rnd.IntN(len(alphabet))]
	}
	return string(b)
}

func (m maker) uuid() string {
	h := m.letters(32, hex)
	return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-a" + h[17:20] + "-" + h[20:]
}

// secretParams are credentials that travel in a path.
var secretParams = []string{"token"}

// param makes up a value of the shape that the API gives a parameter.
func (m maker) param(name string) string {
	switch name {
	case "ref", "branch_id_or_ref":
		return m.letters(20, lower)
	case "id", "tpa_id", "user_id", "provider_id":
		return m.uuid()
	case "version":
		return "2026" + m.letters(10, "0123456789")
	case "addon_variant":
		return "ci_micro" // one of a fixed set
	case "token":
		return m.letters(48, lower+hex[:10])
	default: // slug, function_slug, name, run_id
		return "made-up-" + m.letters(10, lower)
	}
}

// fill makes up all parameters of a template and returns the path.
func (m maker) fill(template string) (path string, params map[string]string) {
	path, params = template, map[string]string{}
	for _, name := range paramNames(template) {
		params[name] = m.param(name)
		path = strings.ReplaceAll(path, "{"+name+"}", params[name])
	}
	return path, params
}

// schema is the part of a JSON schema that describes a string.
type schema struct {
	OneOf     []schema `json:"oneOf"`
	AnyOf     []schema `json:"anyOf"`
	Enum      []string `json:"enum"`
	Format    string   `json:"format"`
	Pattern   string   `json:"pattern"`
	MinLength *int     `json:"minLength"`
	MaxLength *int     `json:"maxLength"`
}

var uuidShape = regexp.MustCompile(`^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$`)

// fits says why a value is not of the described shape. A made-up value that
// the real API would refuse makes a test of nothing.
func (s schema) fits(v string) error {
	if any := append(slices.Clone(s.OneOf), s.AnyOf...); len(any) > 0 {
		var last error
		for _, o := range any {
			if last = o.fits(v); last == nil {
				return nil
			}
		}
		return last
	}
	switch {
	case len(s.Enum) > 0 && !slices.Contains(s.Enum, v):
		return fmt.Errorf("%q is none of %v", v, s.Enum)
	case s.Format == "uuid" && !uuidShape.MatchString(v):
		return fmt.Errorf("%q is no uuid", v)
	case s.MinLength != nil && len(v) < *s.MinLength, s.MaxLength != nil && len(v) > *s.MaxLength:
		return fmt.Errorf("%q has the wrong length", v)
	}
	if s.Pattern != "" {
		re, err := regexp.Compile(s.Pattern)
		if err != nil {
			return fmt.Errorf("compiling the pattern: %w", err)
		}
		if !re.MatchString(v) {
			return fmt.Errorf("%q does not match %s", v, s.Pattern)
		}
	}
	return nil
}
