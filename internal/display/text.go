package display

import (
	"fmt"
	"strings"
	"time"
	"unicode"
)

// Printable is a text without what could drive a terminal: what came from the network must
// not.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '·'
		}
		return r
	}, s)
}

// Spell is a time in the two units that matter.
func Spell(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	days := d / (24 * time.Hour)
	switch {
	case days >= 730:
		return fmt.Sprintf("%.1f years", seconds/(365.25*24*60*60))
	case days >= 14:
		return fmt.Sprintf("%d days", days)
	case days >= 1:
		return fmt.Sprintf("%dd %dh", days, d%(24*time.Hour)/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh %dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return d.Round(time.Second).String()
}
