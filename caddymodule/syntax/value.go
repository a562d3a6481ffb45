package syntax

import (
	"fmt"
	"regexp"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"
)

// At is where the dispenser stands, for error messages.
func At(d *caddyfile.Dispenser) string { return fmt.Sprintf("%s:%d", d.File(), d.Line()) }

var sizeForm = regexp.MustCompile(`^[0-9]+(\.[0-9]+)? ?[A-Za-z]+$`)

// Size wants a unit: a bare number is more often a mistake than a count
// of bytes.
func Size(s string) (int64, error) {
	if !sizeForm.MatchString(s) {
		return 0, fmt.Errorf("%q is not a size: give it a unit, as in 512MiB or 8GiB", s)
	}
	n, err := humanize.ParseBytes(s)
	if err != nil || n == 0 || n > 1<<62 {
		return 0, fmt.Errorf("%q is not a size above zero: write it as in 512MiB or 8GiB", s)
	}
	return int64(n), nil
}

// Duration wants one above zero.
func Duration(s string) (caddy.Duration, error) {
	d, err := caddy.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q is not a duration above zero: write it as in 500ms or 2s", s)
	}
	return caddy.Duration(d), nil
}

// Unrecognized is the error of an option that a block does not have; known are those that it has.
func Unrecognized(d *caddyfile.Dispenser, where, known string) error {
	return d.Errf("%q is not an option of %s: this version knows %s", d.Val(), where, known)
}
