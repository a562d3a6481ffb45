package main

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/google/go-cmp/cmp"
)

// auditField is the one field that the product adds, to the request towards
// the API and to the answer.
var auditField = regexp.MustCompile(`(?i)^(got|head|trailer) audit-id: `)

var announcement = regexp.MustCompile(`(?i)^((?:got|head) trailer: )(.+)`)

// random are what differs from call to call with any server.
var random = []struct {
	re   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`(?i)^(head date: ).*`), "$1*"},
	{regexp.MustCompile(`(?i)^(got sec-websocket-key: ).*`), "$1*"},
}

// normalize takes out what is the server's address, the time, or made up for
// the call.
func normalize(notes []string, ports []string) []string {
	out := make([]string, 0, len(notes))
	for _, n := range notes {
		for _, r := range random {
			n = r.re.ReplaceAllString(n, r.with)
		}
		for i, p := range ports {
			n = strings.ReplaceAll(n, ":"+p, fmt.Sprintf(":PORT%d", i))
		}
		// The proxy announces trailers in the order of a Go map.
		if m := announcement.FindStringSubmatch(n); m != nil {
			names := strings.Split(m[2], ", ")
			slices.Sort(names)
			n = m[1] + strings.Join(names, ", ")
		}
		out = append(out, n)
	}
	return out
}

// withoutAuditID takes out our field, and counts it.
func withoutAuditID(notes []string) ([]string, int) {
	n := len(notes)
	notes = slices.DeleteFunc(notes, auditField.MatchString)
	return notes, n - len(notes)
}

// row is an item over one protocol.
type row struct {
	Item    string `json:"item"`
	Proto   string `json:"proto"`
	Plain   string `json:"plain"`
	Audited string `json:"audited"`
	Same    bool   `json:"same"`
	// Unlike says that plain Caddy did not do what the item is about.
	Unlike string `json:"unlike,omitempty"`
	// Turns says how often both were run until it was clear.
	Turns int `json:"turns"`

	diff string
}

func (r row) verdict() string {
	switch {
	case !r.Same:
		return "NO"
	case r.Unlike != "":
		return "vacuous"
	case r.Turns > 1:
		return "yes, both vary"
	}
	return "yes"
}

// turns is how often a differing item is run. What plain Caddy itself does
// now one way, now another is no difference, and only repetition can tell.
const turns = 12

// compare runs an item against both until it is clear whether they differ:
// everything that was seen of the audited server must have been seen of the
// plain one.
func compare(it *item, proto string, plain, audited func() transcript) row {
	r := row{Item: it.name, Proto: proto}
	var p, a []transcript
	for r.Turns = 1; r.Turns <= turns; r.Turns++ {
		p, a = append(p, plain()), append(a, audited())
		if r.diff = difference(p, a); r.diff == "" {
			r.Same = true
			break
		}
		if unlike(it, p) != "" {
			break // it has to be put right first, and takes long
		}
	}
	r.Turns = min(r.Turns, turns)
	r.Plain, r.Audited = p[len(p)-1].summary, a[len(a)-1].summary
	r.Unlike = unlike(it, p)
	return r
}

// difference is between the first transcript of the audited server that the
// plain one never gave, and what that gave last.
func difference(plain, audited []transcript) string {
	for _, a := range audited {
		if !slices.ContainsFunc(plain, func(p transcript) bool { return slices.Equal(p.lines, a.lines) }) {
			return cmp.Diff(plain[len(plain)-1].lines, a.lines)
		}
	}
	return ""
}

// unlike says what a plain server did not show that the item is about.
func unlike(it *item, plain []transcript) string {
	for _, p := range plain {
		if i := slices.IndexFunc(p.lines, func(l string) bool {
			return strings.HasPrefix(l, "! ") || strings.Contains(l, ": ! ")
		}); i >= 0 {
			return p.lines[i]
		}
		if it.want != "" && p.summary != it.want {
			return fmt.Sprintf("plain Caddy gave %q, want %q", p.summary, it.want)
		}
	}
	return ""
}

// printTable prints rows, those of one item that look alike together.
func printTable(w io.Writer, rows []row) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "ITEM\tPROTOCOLS\tPLAIN\tAUDITED\tSAME")
	for i := 0; i < len(rows); {
		r := rows[i]
		protos := []string{r.Proto}
		for i++; i < len(rows) && rows[i].Item == r.Item && rows[i].Plain == r.Plain &&
			rows[i].Audited == r.Audited && rows[i].verdict() == r.verdict(); i++ {
			protos = append(protos, rows[i].Proto)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", r.Item, strings.Join(protos, " "), short(r.Plain), short(r.Audited), r.verdict())
	}
	_ = tw.Flush() // text for a person
	for _, r := range rows {
		if r.Unlike != "" {
			fmt.Fprintf(w, "\n%s over %s shows nothing: %s\n", r.Item, r.Proto, r.Unlike)
		}
		if !r.Same {
			fmt.Fprintf(w, "\n%s over %s differs (-plain +audited):\n%s", r.Item, r.Proto, r.diff)
		}
	}
}

// short keeps a column readable.
func short(s string) string {
	const most = 48
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
