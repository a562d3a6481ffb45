package natsstore

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

func TestAnyTextBecomesAToken(t *testing.T) {
	for text, want := range map[string]string{
		"default": "default", "a.b": "a%2Eb", "*": "%2A", ">": "%3E", "": "%", "%": "%25", "a b\n": "a%20b%0A", "é": "%C3%A9", "A-b_9": "A-b_9",
	} {
		if got := escape(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	long := escape(strings.Repeat(".", 100))
	if !strings.HasPrefix(long, "%%") || len(long) > maxEscaped {
		t.Errorf("a long text is %q", long)
	}
}

// FuzzEscape looks for two texts with one token, and for one that NATS would not take.
func FuzzEscape(f *testing.F) {
	for _, seed := range [][2]string{{"a", "b"}, {"", "%"}, {"%25", "%"}, {"a.b", "a*b"}, {strings.Repeat("x", 200), "%%"}, {"\x00", "\xff"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		tokenA, tokenB := escape(a), escape(b)
		if a != b && tokenA == tokenB {
			t.Errorf("%q and %q are both %q", a, b, tokenA)
		}
		if tokenA == "" || len(tokenA) > maxEscaped || !utf8.ValidString(tokenA) || strings.ContainsAny(tokenA, ".*> \t\r\n/\\\x00") {
			t.Errorf("%q is %q", a, tokenA)
		}
	})
}

// FuzzParseHighest reads headers that anybody may have written.
func FuzzParseHighest(f *testing.F) {
	for _, seed := range [][2]string{{"1", "2"}, {"", ""}, {"-1", "+1"}, {"18446744073709551615", "9223372036854775807"}, {"1e3", "0x10"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, highest, sequence string) {
		if n := parseHighest(highest, sequence); n > 1<<63-1 {
			t.Errorf("%q and %q are %d", highest, sequence, n)
		}
	})
}

func TestAMessageIDIsAnEntrysIdentity(t *testing.T) {
	base := record(t, 7, 1, 0)
	with := func(change func(*audit.Entry), sequence uint64) forwarder.Record {
		r := recordOf(t, 7, 1, 0, change)
		r.Sequence = sequence
		return r
	}
	if got, want := messageID(base), "0198c0de-0000-7000-8000-000000000007.1"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if messageID(with(func(e *audit.Entry) { e.Origin.Instance = otherInstance }, 99)) != messageID(base) {
		t.Error("where an entry comes from is no part of its identity")
	}
	different := map[string]bool{}
	for _, r := range []forwarder.Record{
		base,
		with(func(e *audit.Entry) { e.Revision = 2 }, 7),
		with(func(e *audit.Entry) { e.Revision = -1 }, 7),
		with(func(e *audit.Entry) { e.ID = "" }, 7),
		with(func(e *audit.Entry) { e.ID = "" }, 8),
		with(func(e *audit.Entry) { e.ID, e.Origin.Instance = "", otherInstance }, 8),
		with(func(e *audit.Entry) { e.ID = "x.1" }, 7),
	} {
		different[messageID(r)] = true
	}
	if len(different) != 7 {
		t.Errorf("%d message ids of 7 entries: %v", len(different), different)
	}
}

func TestAMessageSaysWhatAReaderNeedsToTellARepeat(t *testing.T) {
	c := Config{}.withDefaults()
	r := recordOf(t, 7, 2, 0, func(e *audit.Entry) { e.Retention = &audit.Retention{Class: "team.eu"} })
	m := c.message(r, 12)
	if m.Subject != "audit.team%2Eeu."+testInstance || string(m.Data) != string(r.JSON) {
		t.Errorf("subject %q", m.Subject)
	}
	for name, want := range map[string]string{
		"Nats-Msg-Id": r.Entry.ID + ".2", "Nats-Expected-Stream": "AUDIT_team%2Eeu", "Audit-Instance": testInstance, "Audit-Sequence": "7",
		"Audit-Id": r.Entry.ID, "Audit-Revision": "2", "Audit-Schema-Version": "1", "Audit-Highest-Sequence": "12",
	} {
		if got := m.Header.Get(name); got != want {
			t.Errorf("header %s is %q, want %q", name, got, want)
		}
	}
	hostile := c.message(recordOf(t, 7, 1, 0, func(e *audit.Entry) { e.ID = "x\r\nNats-Rollup: all" }), 7)
	for name, values := range hostile.Header {
		if strings.ContainsAny(name+strings.Join(values, ""), "\r\n") {
			t.Errorf("header %s breaks its line: %q", name, values)
		}
	}
}
