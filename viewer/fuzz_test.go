package viewer

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// FuzzAsk reads query strings: whatever is in them, what is asked of the store is bounded,
// about the visitor's own organization, and within what the plan may read.
func FuzzAsk(f *testing.F) {
	for _, s := range []string{
		"", "limit=50&status=4xx&ip=10.0.0.0/8&actor=a&actor=b", "iso_timestamp_start=2026-11-01T00:00:00Z&iso_timestamp_end=2026-11-02", "text=%00%ff", "limit=-1",
		"cursor=AAAA&token_hash=" + strings.Repeat("ab", 32), "status=0-999&ip=::ffff:10.0.0.1/100", "iso_timestamp_start=1970-01-01T00:00:00%2B14:00",
	} {
		f.Add(s)
	}
	v := &Viewer{o: Options{MaxRange: DefaultMaxRange}}
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	in := &visit{Visitor: new(Visitor), Grant: &Grant{Owners: []audit.Owner{audit.OwnerByID("1")}}, from: now.AddDate(0, 0, -62)}
	f.Fuzz(func(t *testing.T, query string) {
		a, err := v.parseAsk(&url.URL{RawQuery: query}, now)
		if err != nil {
			return
		}
		q, err := a.query(in)
		if err != nil {
			return
		}
		if len(q.Owners) != 1 || !q.AsMember || q.From.Before(in.from) || q.To.Sub(q.From) > DefaultMaxRange || q.Limit < 0 || q.Limit > maxLimit ||
			len(q.Actors)+len(q.Networks)+len(q.Statuses) > forwarder.MaxFilterValues || len(q.Text) > forwarder.MaxFilterValue {
			t.Errorf("%q asks for %+v", query, q)
		}
	})
}

// FuzzCursor takes texts for cursors: none is one but those that were made, for their list.
func FuzzCursor(f *testing.F) {
	v := &Viewer{o: Options{Key: [32]byte{1}}}
	p := forwarder.Place{Timestamp: 1795940016440865, ID: "01a2265d-e138-717c-836e-46242df00a7e"}
	made := v.cursor("list", p)
	for _, s := range []string{made, "", "AAAA", made[:len(made)-1], v.cursor("another", p), "!", strings.Repeat("A", 300)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := v.place("list", text)
		if (err == nil) != (text == made) || err == nil && got != p {
			t.Errorf("%q is the place %v, %v", text, got, err)
		}
	})
}
