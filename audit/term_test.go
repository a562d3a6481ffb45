package audit

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestTermsAreReadAndWritten(t *testing.T) {
	for _, s := range []string{"1d", "400d", "13mo", "7y", "200y", "forever"} {
		v, err := ParseTerm(s)
		if err != nil || v.String() != s || v.IsZero() || v.IsForever() != (s == "forever") {
			t.Errorf("%s: %v, %v", s, v, err)
		}
		b, err := json.Marshal(v)
		if err != nil || string(b) != `"`+s+`"` {
			t.Errorf("%s is encoded as %s, %v", s, b, err)
		}
		var again Term
		if err := json.Unmarshal(b, &again); err != nil || again != v {
			t.Errorf("%s is decoded as %v, %v", b, again, err)
		}
	}
	for s, want := range map[string]string{
		"0d": "keeps nothing", "0mo": "keeps nothing", "000y": "keeps nothing", "": "is no term", "d": "is no term", "7": "is no term",
		"-1d": "is no term", "1.5y": "is no term", "7w": "is no term", "7 d": "is no term", "7D": "is no term", "1h": "is no term",
		"1000000d": "is no term", "99999999999999999999d": "is no term", "٣d": "is no term", "7d\n": "is no term", "Forever": "is no term",
		"201y": "write forever", "999999y": "write forever", "999999mo": "write forever", "99999d": "write forever",
	} {
		if v, err := ParseTerm(s); err == nil || !strings.Contains(err.Error(), want) || !v.IsZero() {
			t.Errorf("%q: %v, %v, want %s", s, v, err, want)
		}
	}
	var none Term
	if err := none.UnmarshalText(nil); err != nil || !none.IsZero() || none.String() != "" {
		t.Errorf("no term is %v, %v", none, err)
	}
}

func TestATermEndsByTheCalendar(t *testing.T) {
	for _, c := range []struct{ term, from, end, kept string }{
		{"1d", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-04T00:00:00Z"},
		{"1d", "2026-01-01T23:59:59.999999Z", "2026-01-02T23:59:59.999999Z", "2026-01-04T00:00:00Z"},
		{"30d", "2026-02-01T12:00:00Z", "2026-03-03T12:00:00Z", "2026-03-05T00:00:00Z"},
		{"1mo", "2026-01-31T12:00:00Z", "2026-03-03T12:00:00Z", "2026-03-05T00:00:00Z"}, // February has no 31st
		{"1mo", "2028-01-30T12:00:00Z", "2028-03-01T12:00:00Z", "2028-03-03T00:00:00Z"},
		{"13mo", "2026-01-15T12:00:00Z", "2027-02-15T12:00:00Z", "2027-02-17T00:00:00Z"},
		{"1y", "2028-02-29T12:00:00Z", "2029-03-01T12:00:00Z", "2029-03-03T00:00:00Z"},
		{"4y", "2028-02-29T12:00:00Z", "2032-02-29T12:00:00Z", "2032-03-02T00:00:00Z"},
		{"1d", "2026-03-28T23:30:00-05:00", "2026-03-30T04:30:00Z", "2026-04-01T00:00:00Z"}, // in UTC
	} {
		v, err := ParseTerm(c.term)
		if err != nil {
			t.Fatal(err)
		}
		from, err := time.Parse(time.RFC3339Nano, c.from)
		if err != nil {
			t.Fatal(err)
		}
		if got := v.End(from).Format(time.RFC3339Nano); got != c.end {
			t.Errorf("%s from %s ends %s, want %s", c.term, c.from, got, c.end)
		}
		if got := time.UnixMicro(v.KeepMicros(from.UnixMicro())).UTC().Format(time.RFC3339Nano); got != c.kept {
			t.Errorf("%s from %s is kept until %s, want %s", c.term, c.from, got, c.kept)
		}
	}
	if !Forever.End(time.Now()).IsZero() || Forever.KeepMicros(0) != ForeverMicros || !(Term{}).End(time.Now()).IsZero() {
		t.Error("forever ends")
	}
}

// someTerm is any term, and its days if it has only days.
func someTerm(rnd *rand.Rand) (v Term, days, months int) {
	switch rnd.IntN(3) {
	case 0:
		days = 1 + rnd.IntN(5000)
		return Days(days), days, 0
	case 1:
		months = 1 + rnd.IntN(300)
		return Term{months, unitMonths}, 0, months
	}
	years := 1 + rnd.IntN(100)
	return Term{years, unitYears}, 0, 12 * years
}

func TestATermNeverEndsEarly(t *testing.T) {
	const day = 24 * time.Hour
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		v, days, months := someTerm(rnd)
		from := time.UnixMicro(rnd.Int64N(4e15)).UTC()
		end := v.End(from)
		// The least that it may be: so many days, or the same day of a later month, or the
		// last one where that has no such day.
		least := from.Add(time.Duration(days) * day)
		if months > 0 {
			y, m, d := from.Date()
			last := time.Date(y, m+time.Month(months)+1, 0, 0, 0, 0, 0, time.UTC)
			least = last.AddDate(0, 0, min(d, last.Day())-last.Day()).Add(from.Sub(time.Date(y, m, d, 0, 0, 0, 0, time.UTC)))
		}
		if end.Before(least) || end.After(least.Add(3*day)) {
			t.Fatalf("%s from %s ends %s, and %s is the least", v, from, end, least)
		}
		kept := time.UnixMicro(v.KeepMicros(from.UnixMicro()))
		if over := kept.Sub(end); over <= day || over > 2*day || kept.UnixMicro()%day.Microseconds() != 0 {
			t.Fatalf("%s from %s ends %s and is kept until %s", v, from, end, kept.UTC())
		}
		// What has not ended may be read, and what began in that time has not.
		now := from.Add(time.Duration(rnd.Int64N(int64(end.Sub(from)))))
		r := Readable{Default: &Range{v}}
		if since, ok := r.From("", now); !ok || since.After(from) {
			t.Fatalf("%s from %s: at %s one may read from %s on", v, from, now, since)
		}
		if since, _ := r.From("", end.Add(4*day)); !since.After(from) {
			t.Fatalf("%s from %s: at %s one may read from %s on", v, from, end.Add(4*day), since)
		}
	}
}

func TestWhichTermIsShorter(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"1d", "2d", true},
		{"2d", "1d", false},
		{"7d", "7d", false},
		{"12mo", "1y", false},
		{"1y", "12mo", false},
		{"365d", "1y", true},
		{"1y", "365d", false},
		{"366d", "1y", false},
		{"28d", "1mo", true},
		{"31d", "1mo", false},
		{"1mo", "28d", false},
		{"1mo", "30d", true},
		{"forever", "200y", false},
		{"200y", "forever", true},
		{"forever", "forever", false},
	} {
		a, _ := ParseTerm(c.a)
		b, _ := ParseTerm(c.b)
		if got := a.isShorter(b); got != c.want {
			t.Errorf("%s is shorter than %s: %t", c.a, c.b, got)
		}
	}
}

func FuzzParseTerm(f *testing.F) {
	for _, s := range []string{"400d", "13mo", "7y", "forever", "0d", "999999y", "01d", "-1d", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseTerm(s)
		if err != nil {
			if !v.IsZero() {
				t.Errorf("%q: %s beside %v", s, v, err)
			}
			return
		}
		again, err := ParseTerm(v.String())
		if err != nil || again != v {
			t.Errorf("%q is %s, which is %s, %v", s, v, again, err)
		}
		now := time.Now()
		if v.IsZero() || !v.IsForever() && !v.End(now).After(now.Add(23*time.Hour)) {
			t.Errorf("%q keeps until %s", s, v.End(now))
		}
	})
}
