package display

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// Summary is an entry in one line. What came from the network is printed
// without control characters: an entry must not drive the terminal.
func Summary(e *audit.Entry) string {
	at := time.UnixMicro(e.Timestamp).Format("2006-01-02 15:04:05.000")
	if e.IsEvent() {
		return Printable(fmt.Sprintf("%s  sidecar  %s", at, e.Action.Name))
	}
	target := "–"
	if e.Target != nil {
		target = Target(e.Target)
	}
	action := e.Action.Name
	if action == "" {
		action = e.Action.Path
	}
	who := string(e.Actor.TokenType)
	if e.Actor.TokenAlias != "" {
		who += " " + e.Actor.TokenAlias
	}
	if person := cmp.Or(e.Actor.Email, e.Actor.UserID); person != "" { // only ever a verified one
		who += " " + person
	}
	if c := e.Actor.Certificate; c != nil {
		who += " with certificate " + cmp.Or(c.Subject, strings.Join(c.Names, " "))
	}
	status := "–"
	if e.Action.Status != 0 {
		status = strconv.Itoa(e.Action.Status)
	}
	return Printable(fmt.Sprintf("%s  %-7s  %s  %-6s  %s  [%s]  by %s from %s",
		at, e.Outcome, status, e.Action.Method, action, target, who, e.Actor.IP))
}

// Target is what an action was done to, in words.
func Target(t *audit.Target) string {
	words := t.Type
	if t.ID != "" {
		words += " " + t.ID
	}
	if t.Parent != "" {
		words += " in " + t.Parent
	}
	return words
}
