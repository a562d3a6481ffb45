//go:build unix

package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

func TestWhatJSONCannotHoldInPostgreSQLComesBackByteByByte(t *testing.T) {
	s := newStore(t)
	var batch []forwarder.Record
	for i, text := range []string{`\u0000`, `a\u0000b\\u0000`, `\\u0000`, `\ud800`, `\udc00\ud800`, `\ud83d\ude00`, `\uD83D\u0041`, "\xff\xfe", "\xed\xa0\x80", `\"\u0000`} {
		batch = append(batch, payload(t, i+1, fmt.Sprintf(`{"id":"id-%d","revision":1,"timestamp":%d,"organization_slug":"%s","actor":{"ip":"%s"},"x":"%s"}`, i, epoch+i, text, text, text)))
	}
	write(t, s, batch)
	write(t, s, batch)
	if diff := cmp.Diff(texts(batch), documents(t, s, forwarder.Query{})); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	for _, r := range batch {
		for name, q := range map[string]forwarder.Query{"organization": {Organization: r.Entry.OrganizationSlug}, "ip": {IP: r.Entry.Actor.IP}} {
			found := false
			for _, doc := range documents(t, s, q) {
				found = found || doc == string(r.JSON)
			}
			if !found {
				t.Errorf("%q is not found by its %s", r.JSON, name)
			}
		}
	}
	// And nobody's query fails for them.
	n := value[int](t, s.conn, s.at.schema, `SELECT count(*) FROM {schema}.entry WHERE document->>'x' IS NOT NULL AND document->'actor'->>'ip' <> ''`)
	if n != len(batch) {
		t.Errorf("%d entries can be queried, want %d", n, len(batch))
	}
}

func FuzzADocumentIsChangedOnlyWhereItMust(f *testing.F) {
	for _, doc := range []string{`{}`, `{"a":"\u0000"}`, `"\\u0000"`, `"\ud800\udc00"`, `"\ud800"`, "\"\xff\"", "\x00", `\`, `\u`, `\u00`} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		text, raw := document(doc)
		if raw == nil && text != string(doc) || raw != nil && string(raw) != string(doc) {
			t.Fatalf("%q became %q, raw %q", doc, text, raw)
		}
		again, raw := document([]byte(text))
		if again != text || raw != nil {
			t.Errorf("%q became %q, and that %q", doc, text, again)
		}
		var before, after any
		if json.Unmarshal(doc, &before) == nil {
			if err := json.Unmarshal([]byte(text), &after); err != nil {
				t.Errorf("%q became %q: %v", doc, text, err)
			}
		}
	})
}

func FuzzAColumnStandsForOneText(f *testing.F) {
	long := strings.Repeat("x", 500)
	f.Add("a", "b")
	f.Add("a\x00", `a\0`)
	f.Add(long+"1", long+"2")
	f.Add(strings.Repeat(`\`, 400), strings.Repeat(`\`, 399)+"s")
	f.Add(long, column(long))
	f.Fuzz(func(t *testing.T, a, b string) {
		a, b = strings.ToValidUTF8(a, "\uFFFD"), strings.ToValidUTF8(b, "\uFFFD")
		for _, s := range []string{column(a), column(b)} {
			if len(s) > maxColumn || strings.ToValidUTF8(s, "") != s || strings.ContainsRune(s, 0) {
				t.Errorf("column %q", s)
			}
		}
		if (a == b) != (column(a) == column(b)) {
			t.Errorf("%q and %q have %q and %q", a, b, column(a), column(b))
		}
	})
}

func TestASearchUsesAnIndex(t *testing.T) {
	s := newStore(t)
	for n := 0; n < 20_000; n += 5000 {
		write(t, s, records(t, n+1, n+5000))
	}
	e := entry(7, 1)
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			run(t, s.conn, s.at.schema, `ANALYZE {schema}.entry`)
		}
		for name, q := range map[string]forwarder.Query{
			"a session": {Session: e.Actor.SessionID}, "a user": {User: e.Actor.UserID}, "an address": {IP: e.Actor.IP},
			"an address in an organization": {IP: e.Actor.IP, Organization: "org-7"},
		} {
			f := markedBy(&q)
			plan := explain(t, s, true, "SELECT timestamp FROM {schema}.entry WHERE "+f.where+" ORDER BY timestamp", f.args)
			if !strings.Contains(plan, "Bitmap Index Scan on entry_default_2025_10_marks_idx") {
				t.Errorf("%s, analyzed %v:\n%s", name, analyzed, plan)
			}
		}
		for name, q := range map[string]forwarder.Query{
			"all": {}, "newest": {NewestFirst: true}, "an organization": {Organization: "org-3", NewestFirst: true},
			"a time": {From: timeOf(100), To: timeOf(19_000)}, "an organization's time": {Organization: "org-3", From: timeOf(100), To: timeOf(19_000)},
		} {
			for _, begun := range []bool{false, true} {
				w := walkOf(t, s, &q)
				w.begun, w.timestamp, w.id = begun, entry(10_000, 1).Timestamp, entry(10_000, 1).ID
				sql, args := w.sql(pageEntries)
				plan := explain(t, s, false, sql, args)
				if strings.Contains(plan, "Seq Scan on entry_default_2025_10") || strings.Contains(plan, "Sort  (") {
					t.Errorf("%s, begun %v, analyzed %v:\n%s", name, begun, analyzed, plan)
				}
			}
		}
	}
}

// walkOf is the walk of a query.
func walkOf(t testing.TB, s *Store, q *forwarder.Query) (w *walk) {
	t.Helper()
	err := s.snapshot(t.Context(), false, func(tx *snapshot) (err error) {
		w, err = tx.newWalk(t.Context(), q)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// explain returns the plan that a read gets.
func explain(t testing.TB, s *Store, marked bool, sql string, args []any) (plan string) {
	t.Helper()
	err := s.snapshot(context.Background(), marked, func(tx *snapshot) error {
		return tx.query(context.Background(), "EXPLAIN "+replaceSchema(sql, s.at.schema), args, func(v [][]byte) { plan += string(v[0]) + "\n" })
	})
	if err != nil {
		t.Fatal(err)
	}
	return plan
}
