//go:build unix

package postgres

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

var long = strings.Repeat("long", audit.MaxBriefText/4)

// hostileTexts are what a client may send, of any length, without U+0000.
var hostileTexts = []string{
	"a", "A", "'; DROP TABLE entry; --", "%", "_", "100%_sure", "\uffff\U0010ffff", "\ufffd", "\u0001\u007f\u0080", `\`, `\\`, `\0`, `\\0`, `\b`, `\\0\0`, `a\sb`, `\000`,
	long, long + "1", long + "2", long[1:] + "é", long[:93] + "é" + long, long[:92] + "é" + long, long[:91] + "\U0001f468" + long,
	strings.Repeat(`\`, 45), strings.Repeat(`\`, 46), strings.Repeat(`\`, 64), strings.Repeat(`\`, 128), strings.Repeat(`\`, 200), `"`, "<script>", "{}", "NULL", "$1",
}

func TestHostileTextsAreTheirOwnValues(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	texts := append([]string{"\x00", "a\x00b", "a\x00c", `a\0b`, `\b` + "AGI", strings.Repeat("\x00", 128), long + "\x00"}, hostileTexts...)
	var batch, owned []forwarder.Record
	for n, text := range texts {
		e := entry(n, 1)
		e.OrganizationSlug, e.ProjectRef, e.Action.Code, e.Actor.UserID, e.Actor.Email = "org-1", text, text, text, text
		e.Action.Path, e.Target = text, &audit.Target{Type: text, ID: text}
		own := entry(1000+n, 1)
		own.OrganizationID, own.Actor.TokenType, own.Outcome, own.Action.Method = text, audit.TokenType(text), audit.Outcome(text), text
		batch, owned = append(batch, record(t, e, n+1)), append(owned, record(t, own, 1000+n))
	}
	batch = append(batch, owned...)
	write(t, s, batch)
	checkColumns(t, s)
	for i, text := range append(texts, "\xff", "a\xffb", "no such thing") {
		is := []string{text}
		for _, f := range []forwarder.Filters{
			{Projects: is}, {Actions: is}, {Actors: is}, {Targets: is}, {Targets: []string{text + "/" + text}}, {TokenTypes: is}, {Outcomes: is}, {Methods: is}, {Text: text},
		} {
			q := forwarder.Query{Owners: []audit.Owner{audit.OwnerBySlug("org-1"), audit.OwnerByID(text)}, Filters: f}
			var want []audit.Brief
			for _, r := range batch {
				if q.Matches(r.Entry) {
					want = append(want, r.Entry.Brief())
				}
			}
			if diff := cmp.Diff(want, briefsOf(t, s, q)); diff != "" {
				t.Errorf("Briefs of text %d, %+v (-want +got):\n%s", i, q, diff)
			}
			if i%3 != 0 {
				continue // it takes its time
			}
			if n := len(documents(t, s, q)); n != len(want) {
				t.Errorf("%d entries with text %d, want %d", n, i, len(want))
			}
		}
	}
}

// largest is an entry all of whose columns are as long as they can be, of texts that
// PostgreSQL cannot compress.
func largest(n int) (*audit.Entry, *audit.Stamp) {
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	random := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(' ' + 1 + rng.IntN(94))
			if b[i] == '\\' {
				b[i] = '!'
			}
		}
		return string(b)
	}
	text := func() string { return random(audit.MaxBriefText-1) + "\x00" } // which is written in base64
	e := entry(n, 1)
	e.ID, e.OrganizationSlug, e.ProjectRef = random(maxColumn), text(), text() // the slug makes the longest owner
	e.Actor = audit.Actor{UserID: text(), Email: text(), TokenType: audit.TokenType(text()), IP: "2001:db8::1"}
	e.Action.Code, e.Action.Method, e.Action.Status, e.Outcome = text(), text(), math.MinInt32, audit.Outcome(text())
	e.Target = &audit.Target{Type: text(), ID: text()}
	return e, &audit.Stamp{Membership: audit.Membership(random(maxColumn)), Retention: &audit.Retention{Class: defaultClass, Plan: random(maxColumn), KeepUntil: audit.Days(40_000).KeepMicros(e.Timestamp)}}
}

// A row of an index that has more than 2704 bytes is refused.
func TestNoEntryIsTooLargeForAnIndex(t *testing.T) {
	s := newStore(t)
	e, stamp := largest(1)
	r := recordOf(t, strings.Repeat("i", 300)+tokenHash(1)+tokenHash(2), e, 1)
	r.Stamp = stamp
	write(t, s, []forwarder.Record{r})
	stamp.On(e)
	checkColumns(t, s)
	owner := []audit.Owner{e.Owner()}
	if got := briefsOf(t, s, forwarder.Query{Owners: owner}); len(got) != 1 || cmp.Diff(e.Brief(), got[0]) != "" {
		t.Errorf("got %+v", got)
	}
	// No column can have more than it has here, so no row of the index can.
	for column, most := range map[string]int{
		"owner": len("slug:") + maxBriefColumn, "id": maxColumn, "membership": maxColumn, "actor": maxBriefColumn, "email": maxBriefColumn, "token_type": maxBriefColumn,
		"address": 16, "project_ref": maxBriefColumn, "action": maxBriefColumn, "method": maxBriefColumn, "target_type": maxBriefColumn, "target": maxBriefColumn, "outcome": maxBriefColumn,
	} {
		if n := value[int](t, s.conn, s.at.schema, fmt.Sprintf(`SELECT octet_length(%s) FROM {schema}.entry`, column)); n != most {
			t.Errorf("column %s has %d bytes, want %d", column, n, most)
		}
	}
	columns := value[[]string](t, s.conn, s.at.schema, `SELECT array_agg(a.attname::text) FROM pg_attribute a WHERE a.attrelid = '{schema}.entry_by_owner'::regclass`)
	if len(columns) != 15 {
		t.Errorf("the index has %d columns, and 15 are as long as they can be: %q", len(columns), columns)
	}
}

// The functions of the migration make the same of a text as this build does.
func TestSQLShortensTextsAsTheStoreDoes(t *testing.T) {
	s := newStore(t)
	ask := func(sql, text string) *string {
		t.Helper()
		var got *string
		if err := s.conn.QueryRow(t.Context(), replaceSchema(sql, s.at.schema), text).Scan(&got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, text := range append([]string{""}, hostileTexts...) {
		if diff := cmp.Diff(briefed(audit.BriefText(text)), ask(`SELECT {schema}.brief_text($1)`, text)); diff != "" {
			t.Errorf("text %q (-want +got):\n%s", text, diff)
		}
	}
	for _, text := range append([]string{"a\x00b", "\x00", `\` + "\x00", "\x00" + `\0`, "\x00" + long, `\\` + "\x00é"}, hostileTexts...) {
		if diff := cmp.Diff(briefColumn(audit.BriefText(text)), *ask(`SELECT {schema}.brief_stamped($1)`, escape(text))); diff != "" {
			t.Errorf("stamped %q (-want +got):\n%s", text, diff)
		}
	}
	for _, text := range []string{
		"203.0.113.7", "0.0.0.0", "255.255.255.255", "256.0.0.1", "1.2.3", "01.2.3.4", "1.2.3.4.5", "1.2.3.4/24", " 1.2.3.4", "::", "::1", "2001:DB8::1", "2001:db8::/32", "fe80::1%eth0",
		"fe80::1%", "::ffff:203.0.113.7", "64:ff9b::1.2.3.4", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7", "1::2::3", ":", ":::", "unix", "@", "", "1.2.3.4%eth0", "12345::", "[::1]", "::ffff:1.2.3.256", strings.Repeat("1:", 3000),
	} {
		var got []byte
		if err := s.conn.QueryRow(t.Context(), replaceSchema(`SELECT {schema}.brief_address($1)`, s.at.schema), text).Scan(&got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(audit.Address(text), got); diff != "" {
			t.Errorf("address %.100q (-want +got):\n%s", text, diff)
		}
	}
}
