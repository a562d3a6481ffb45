package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// given plays transcripts by turns, and the last one for ever.
func given(lines ...string) func() transcript {
	i := -1
	return func() transcript {
		i = min(i+1, len(lines)-1)
		return transcript{summary: "200", lines: strings.Split(lines[i], "|")}
	}
}

func TestADifferenceIsFound(t *testing.T) {
	it := &item{name: "an item", want: "200"}
	for _, c := range []struct {
		name           string
		plain, audited func() transcript
		same           bool
	}{
		{"the same", given("a|b"), given("a|b"), true},
		{"a field more", given("a|b"), given("a|b|c"), false},
		{"another order", given("a|b"), given("b|a"), false},
		{"nothing at all", given("a"), given(""), false},
		{"what plain does by turns as well", given("a", "b", "a"), given("b", "a"), true},
		{"what only the audited one does, now and then", given("a"), given("c", "a"), false},
	} {
		r := compare(it, h1, c.plain, c.audited)
		if r.Same != c.same || r.Unlike != "" || (r.diff == "") != c.same {
			t.Errorf("%s: got %+v", c.name, r)
		}
	}
}

func TestAnItemThatShowsNothingIsFound(t *testing.T) {
	for name, lines := range map[string]string{"the client's part failed": "! silence", "the API's part failed": "API 1: ! silence"} {
		if r := compare(&item{name: name}, h1, given(lines), given(lines)); r.Unlike == "" || r.verdict() != "vacuous" {
			t.Errorf("%s: got %+v", name, r)
		}
	}
	if r := compare(&item{want: "304"}, h1, given("a"), given("a")); r.Unlike == "" {
		t.Errorf("another summary than wanted: got %+v", r)
	}
}

func TestOnlyWhatCannotBeEqualIsTakenOut(t *testing.T) {
	got := normalize([]string{"head Date: today", "head date: today", "head Alt-Svc: h3=\":4711\"", "got X-Date: kept", "body \"Date: kept\""}, []string{"4711"})
	want := []string{"head Date: *", "head date: *", "head Alt-Svc: h3=\":PORT0\"", "got X-Date: kept", "body \"Date: kept\""}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	got, n := withoutAuditID([]string{"head audit-id: 1", "got Audit-Id: 1", "head Audit-Idx: 1", "body \"Audit-Id: 1\""})
	if n != 2 || len(got) != 2 {
		t.Errorf("took out %d and left %q", n, got)
	}
}

func TestH2specResultsAreCompared(t *testing.T) {
	for _, c := range []struct {
		plain, audited []cases
		want           int
	}{
		{[]cases{{"a": true, "b": false}}, []cases{{"a": true, "b": false}}, 0},
		{[]cases{{"a": true}}, []cases{{"a": false}}, 1},
		{[]cases{{"a": false}}, []cases{{"a": true}}, 1},
		{[]cases{{"a": true}}, []cases{{}}, 1},
		{[]cases{{"a": true}, {"a": false}}, []cases{{"a": false}, {"a": false}}, 0},
	} {
		if got := differing(c.plain, c.audited); len(got) != c.want {
			t.Errorf("%v and %v: got %v", c.plain, c.audited, got)
		}
	}
	if _, err := parseJUnit([]byte("<testsuites></testsuites>")); err == nil {
		t.Error("a report without cases was taken for one")
	}
}

func TestADamagedBodyIsFound(t *testing.T) {
	const n = 3 << 20
	var b bytes.Buffer
	if err := pour(&b, n); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	if err := drain(bytes.NewReader(whole), n); err != nil {
		t.Error(err)
	}
	changed := bytes.Clone(whole)
	changed[2<<20]++
	lost := slices.Delete(bytes.Clone(whole), 1<<20, 1<<20+4096)
	for name, bad := range map[string][]byte{"changed": changed, "lost": lost, "short": whole[:n-1]} {
		if err := drain(bytes.NewReader(bad), n); err == nil {
			t.Errorf("%s: passed for whole", name)
		}
	}
}

func TestSizesAreRead(t *testing.T) {
	for s, want := range map[string]int64{"256MiB": 256 << 20, "5GiB": 5 << 30, "7 KiB": 7 << 10, "9B": 9} {
		if got, err := parseSize(s); err != nil || got != want {
			t.Errorf("%s: got %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "5", "GiB", "-1GiB", "5GB"} {
		if _, err := parseSize(s); err == nil {
			t.Errorf("%q was read", s)
		}
	}
}
