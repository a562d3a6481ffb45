package viewer

import (
	"bytes"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// format is one that a log is exported in.
type format struct {
	name, extension, mediaType string
	begin                      func(x *export) []byte
	// entry appends an entry, which is stored as doc.
	entry func(b []byte, x *export, e *audit.Entry, doc []byte) ([]byte, error)
	end   func(x *export) []byte
}

var formats = map[string]*format{
	"json":   {"json", "json", "application/json", beginJSON, appendJSON, endJSON},
	"ndjson": {"ndjson", "ndjson", "application/x-ndjson", nothing, appendLine, nothing},
	"csv":    {"csv", "csv", "text/csv; charset=utf-8; header=present", beginCSV, appendCSV, nothing},
	"ocsf":   {"ocsf", "ocsf.ndjson", "application/x-ndjson", nothing, appendOCSF, nothing},
}

func nothing(*export) []byte { return nil }

// exportFacts begin and end a file of JSON.
type exportFacts struct {
	OrganizationID   string `json:"organization_id,omitempty"`
	OrganizationSlug string `json:"organization_slug,omitempty"`
}

func beginJSON(x *export) []byte {
	b, _ := json.Marshal(exportFacts{x.in.ID, x.in.Slug}) // two texts always encode
	if len(b) > len("{}") {
		b = append(b[:len(b)-1], ',')
	} else {
		b = b[:1]
	}
	return append(b, `"result":[`...)
}

func appendJSON(b []byte, x *export, e *audit.Entry, doc []byte) ([]byte, error) {
	doc, err := x.in.document(e, doc)
	if err != nil {
		return nil, err
	}
	x.lines.Write(doc)
	x.lines.Write([]byte{'\n'})
	if x.entries > 0 {
		b = append(b, ',')
	}
	return append(append(b, '\n'), doc...), nil
}

// endJSON ends with what shows that the file is whole: how many entries it has, and the
// SHA-256 of them as a file of the format ndjson.
func endJSON(x *export) []byte {
	return append([]byte("\n],\"count\":"), strconv.Itoa(x.entries)+`,"entries_sha256":"`+hex.EncodeToString(x.lines.Sum(nil))+"\"}\n"...)
}

func appendLine(b []byte, x *export, e *audit.Entry, doc []byte) ([]byte, error) {
	doc, err := x.in.document(e, doc)
	return append(append(b, doc...), '\n'), err
}

func appendOCSF(b []byte, x *export, e *audit.Entry, doc []byte) ([]byte, error) {
	var err error
	if x.in.Operator {
		doc, err = audit.OCSFDocument(doc)
	} else {
		doc, err = audit.OCSF(x.in.shown(e))
	}
	return append(append(b, doc...), '\n'), err
}

// csvColumns are the columns of a CSV export (RFC 4180), by their head.
var csvColumns = []struct {
	head string
	of   func(e *audit.Entry) string
}{
	{"time", func(e *audit.Entry) string { return csvTime(e.Timestamp) }},
	{"id", func(e *audit.Entry) string { return e.ID }},
	{"request_id", func(e *audit.Entry) string { return e.RequestID }},
	{"organization_slug", func(e *audit.Entry) string { return e.OrganizationSlug }},
	{"project_ref", func(e *audit.Entry) string { return e.ProjectRef }},
	{"user_id", func(e *audit.Entry) string { return e.Actor.UserID }},
	{"email", func(e *audit.Entry) string { return e.Actor.Email }},
	{"oauth_app", func(e *audit.Entry) string { return e.Actor.OAuthAppName }},
	{"token_type", func(e *audit.Entry) string { return string(e.Actor.TokenType) }},
	{"token_alias", func(e *audit.Entry) string { return e.Actor.TokenAlias }},
	{"token_hash", func(e *audit.Entry) string { return e.Actor.TokenHash }},
	{"verification", func(e *audit.Entry) string { return string(e.Actor.Verification) }},
	{"session_id", func(e *audit.Entry) string { return e.Actor.SessionID }},
	{"ip", func(e *audit.Entry) string { return e.Actor.IP }},
	{"user_agent", func(e *audit.Entry) string { return e.Actor.UserAgent }},
	{"action", func(e *audit.Entry) string { return e.Action.Name }},
	{"action_code", func(e *audit.Entry) string { return e.Action.Code }},
	{"method", func(e *audit.Entry) string { return e.Action.Method }},
	{"route", func(e *audit.Entry) string { return e.Action.Route }},
	{"path", func(e *audit.Entry) string { return e.Action.Path }},
	{"status", func(e *audit.Entry) string { return csvNumber(int64(e.Action.Status)) }},
	{"outcome", func(e *audit.Entry) string { return string(e.Outcome) }},
	{"target_type", func(e *audit.Entry) string { return targetOf(e).Type }},
	{"target_id", func(e *audit.Entry) string { return targetOf(e).ID }},
	{"target_parent", func(e *audit.Entry) string { return targetOf(e).Parent }},
	{"duration_us", func(e *audit.Entry) string { return csvNumber(e.DurationUS) }},
	{"count", func(e *audit.Entry) string { return csvNumber(int64(e.Count)) }},
	{"membership", func(e *audit.Entry) string { return string(e.Membership) }},
}

func targetOf(e *audit.Entry) audit.Target {
	if e.Target == nil {
		return audit.Target{}
	}
	return *e.Target
}

func csvTime(us int64) string { return time.UnixMicro(us).UTC().Format("2006-01-02T15:04:05.000000Z") }

func csvNumber(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

func beginCSV(*export) []byte {
	head := make([]string, len(csvColumns))
	for i, c := range csvColumns {
		head[i] = c.head
	}
	return appendCells(nil, head)
}

func appendCSV(b []byte, x *export, e *audit.Entry, _ []byte) ([]byte, error) {
	e = x.in.shown(e)
	cells := make([]string, len(csvColumns))
	for i, c := range csvColumns {
		cells[i] = inert(c.of(e))
	}
	return appendCells(b, cells), nil
}

func appendCells(b []byte, cells []string) []byte {
	to := bytes.NewBuffer(b)
	w := csv.NewWriter(to)
	w.UseCRLF = true
	_ = w.Write(cells) // a Buffer takes all
	w.Flush()
	return to.Bytes()
}

// inert is a text that no spreadsheet takes for a formula: an apostrophe goes before one
// that begins as a formula does, and before one that begins with an apostrophe, so that it
// can be taken away again. A NUL, which ends a text for some, becomes U+FFFD.
func inert(s string) string {
	if s == "" {
		return s
	}
	s = strings.ReplaceAll(s, "\x00", "\ufffd")
	begins := strings.TrimLeft(s, " \u00a0\u3000")
	if begins != "" && strings.ContainsRune("=+-@\t\r\n'＝＋－＠", []rune(begins)[0]) {
		return "'" + s
	}
	return s
}
