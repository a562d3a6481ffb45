package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

const mine = "mine"

// entry is the n-th of an instance, with content of its own.
func entry(n uint64) rig.Entry {
	e := rig.Entry{ID: fmt.Sprint("entry-", n), Revision: 1, Origin: &rig.Origin{Instance: mine, Sequence: n}}
	e.Sum[0] = byte(n)
	return e
}

// arrivals are entries first to last, in order.
func entries(first, last uint64) (all []rig.Entry) {
	for n := first; n <= last; n++ {
		all = append(all, entry(n))
	}
	return all
}

func TestAStoreThatHasEverythingHolds(t *testing.T) {
	for _, once := range []bool{false, true} {
		l := &ledger{Store: "s", once: once}
		all := entries(4, 20)
		if !once {
			all = append(all[:10], all[7:]...) // a batch that came again
		}
		l.arrived(all, span{instance: mine, start: 3, position: 20})
		l.received([][2]uint64{{4, 20}}, 3, 20, "at the end")
		if !l.held() || l.Stored != 17 || l.Repeats != map[bool]int{false: 3, true: 0}[once] {
			t.Errorf("once %t: got %+v", once, l)
		}
	}
}

func TestWhatAStoreMustNotHaveIsFound(t *testing.T) {
	lost := map[uint64]string{5: "a gap"}
	full := func() []rig.Entry { all := entries(1, 10); return append(all[:4], all[5:]...) }
	for name, c := range map[string]struct {
		once  bool
		plant func([]rig.Entry) []rig.Entry
		count func(*ledger) int
	}{
		"one is missing":             {false, func(a []rig.Entry) []rig.Entry { return append(a[:6], a[7:]...) }, func(l *ledger) int { return l.Missing }},
		"the last is missing":        {false, func(a []rig.Entry) []rig.Entry { return a[:len(a)-1] }, func(l *ledger) int { return l.Missing }},
		"one is there despite a gap": {false, func([]rig.Entry) []rig.Entry { return entries(1, 10) }, func(l *ledger) int { return l.Strange }},
		"one lies beyond":            {false, func(a []rig.Entry) []rig.Entry { return append(a, entry(11)) }, func(l *ledger) int { return l.Strange }},
		"one is another's": {false, func(a []rig.Entry) []rig.Entry {
			e := entry(9)
			e.ID, e.Origin.Instance = "x", "other"
			return append(a, e)
		}, func(l *ledger) int { return l.Strange }},
		"one has no origin":           {false, func(a []rig.Entry) []rig.Entry { return append(a, rig.Entry{ID: "x"}) }, func(l *ledger) int { return l.Strange }},
		"two have one sequence":       {false, func(a []rig.Entry) []rig.Entry { e := entry(10); e.ID = "x"; return append(a, e) }, func(l *ledger) int { return l.Strange }},
		"a repeat is another content": {false, func(a []rig.Entry) []rig.Entry { e := entry(10); e.Sum[1]++; return append(a, e) }, func(l *ledger) int { return l.WrongRepeats }},
		"a repeat has its own number": {false, func(a []rig.Entry) []rig.Entry { e := entry(10); e.Origin.Sequence = 9; return append(a, e) }, func(l *ledger) int { return l.WrongRepeats }},
		"a repeat where there is one": {true, func(a []rig.Entry) []rig.Entry { return append(a, entry(10)) }, func(l *ledger) int { return l.WrongRepeats }},
		"two changed places":          {false, func(a []rig.Entry) []rig.Entry { a[1], a[2] = a[2], a[1]; return a }, func(l *ledger) int { return l.OutOfOrder }},
		"two changed places, once":    {true, func(a []rig.Entry) []rig.Entry { a[1], a[2] = a[2], a[1]; return a }, func(l *ledger) int { return l.OutOfOrder }},
		"nothing is there":            {true, func([]rig.Entry) []rig.Entry { return nil }, func(l *ledger) int { return 1 - l.Stored }},
	} {
		l := &ledger{Store: "s", once: c.once}
		l.arrived(c.plant(full()), span{instance: mine, position: 10, lost: lost})
		if l.held() || c.count(l) == 0 {
			t.Errorf("%s: was not noticed: %+v", name, l)
		}
	}
}

func TestRangesOfWhatWasReceived(t *testing.T) {
	for _, c := range []struct {
		ranges [][2]uint64
		wrong  int
	}{
		{[][2]uint64{{1, 10}}, 0},
		{[][2]uint64{{1, 9}}, 1},
		{[][2]uint64{{2, 10}}, 1},
		{[][2]uint64{{1, 4}, {6, 10}}, 1},
		{nil, 1},
	} {
		l := &ledger{Store: "s"}
		if l.received(c.ranges, 0, 10, "at the end"); l.WrongRanges != c.wrong {
			t.Errorf("%v: got %d", c.ranges, l.WrongRanges)
		}
	}
}

func TestStoresAreHeldAgainstEachOther(t *testing.T) {
	compare := func(a, b []rig.Entry) *ledger {
		all := span{instance: mine, position: 10}
		one, other := &ledger{Store: "a", once: true}, &ledger{Store: "b", once: true}
		one.arrived(a, all)
		other.arrived(b, all)
		one.agrees(other, map[uint64]string{3: "a gap"})
		return one
	}
	changed := entries(1, 10)
	changed[6].Sum[1]++
	if l := compare(append(entries(1, 2), entries(4, 10)...), entries(1, 10)); !l.held() {
		t.Errorf("got %+v", l)
	}
	if l := compare(changed, entries(1, 10)); l.Differ != 1 {
		t.Errorf("got %+v", l)
	}
	if l := compare(append(entries(1, 6), entries(8, 10)...), entries(1, 10)); l.Missing != 1 {
		t.Errorf("got %+v", l)
	}
}

func TestGapsNameWhatAStoreDoesNotGet(t *testing.T) {
	gap := func(metadata string) rig.Entry {
		e := entry(1)
		e.Action.Code, e.Action.Metadata = codeGap, json.RawMessage(metadata)
		return e
	}
	lost := given([]rig.Entry{
		entry(1), gap(`{"reason":"detached","store":"siem","first":3,"last":5,"count":3}`), gap(`{"reason":"dropped","store":"siem","first":9,"last":9,"count":1}`),
		gap(`{"reason":"passed","count":7}`), gap(`{"reason":"skipped","store":"x","first":7,"last":6}`),
	})
	if len(lost) != 1 || len(lost["siem"]) != 4 || lost["siem"][4] == "" || lost["siem"][9] == "" {
		t.Errorf("got %v", lost)
	}
}

func TestTheShippedCaddyfileGetsOtherStores(t *testing.T) {
	const shipped = "\taudit_log {\n\t\tbuffer x {\n\t\t\tmax_size 8GiB\n\t\t\tmax_wait 2s # a word\n\t\t}\n\t\tstore sqlite ./audit.db\n\t}\n"
	got, err := caddyfile(shipped, []store{&sqliteStore{}, &fileStore{dir: "/d"}}, "16MiB")
	want := "\taudit_log {\n\t\tbuffer x {\n\t\t\tmax_size 16MiB\n\t\t\tsegment_size 1MiB\n\t\t\tmax_wait 15s\n\t\t}\n" +
		"\t\tstore sqlite ./audit.db\n\t\tstore file /d/audit.ndjson {\n\t\t\tmax_size 4MiB\n\t\t}\n\t}\n"
	if err != nil || got != want {
		t.Errorf("got %v\n%s\nwant\n%s", err, got, want)
	}
	for _, line := range []string{"store sqlite", "max_size", "max_wait"} {
		if _, err := caddyfile(strings.Replace(shipped, line, "other", 1), nil, ""); err == nil {
			t.Errorf("a Caddyfile without %s was taken", line)
		}
	}
}

func TestAReceiverTakesOnlyWhatIsSigned(t *testing.T) {
	const body = "[]"
	sign := func(at time.Time, key, of string) http.Header {
		stamp := strconv.FormatInt(at.Unix(), 10)
		mac := hmac.New(sha256.New, []byte(key))
		_, _ = mac.Write([]byte("msg." + stamp + "." + of))
		return http.Header{"Webhook-Id": {"msg"}, "Webhook-Timestamp": {stamp}, "Webhook-Signature": {"v1,x v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))}}
	}
	own := string(secretBytes)
	for name, c := range map[string]struct {
		header http.Header
		taken  bool
	}{
		"signed":          {sign(time.Now(), own, body), true},
		"another key":     {sign(time.Now(), "another", body), false},
		"another body":    {sign(time.Now(), own, "[1]"), false},
		"an old one":      {sign(time.Now().Add(-time.Hour), own, body), false},
		"one from later":  {sign(time.Now().Add(time.Hour), own, body), false},
		"without headers": {http.Header{}, false},
	} {
		if got := signed(c.header, []byte(body)); got != c.taken {
			t.Errorf("%s: got %t", name, got)
		}
	}
}

func TestOptionsThatCannotBeMeantAreRefused(t *testing.T) {
	for _, change := range []func(*options){
		func(o *options) { o.Only = "outages" },
		func(o *options) { o.Store = "" },
		func(o *options) { o.Kills = 0 },
		func(o *options) { o.Reads = 2 },
		func(o *options) { o.Down = 0 },
	} {
		o := short(trialOutage, httpKind)
		change(&o)
		if _, err := outage(t.Context(), o, t.Output()); err == nil || !strings.Contains(err.Error(), "reading the options") {
			t.Errorf("got %v", err)
		}
	}
}

func TestOrderIsPromisedWithinAClassWhereClassesAreKeptApart(t *testing.T) {
	var entries []rig.Entry
	for _, n := range []uint64{1, 3, 2, 4} { // 2 is of another class
		e := entry(n)
		if e.Retention.Class = "default"; n == 2 {
			e.Retention.Class = "unattributed"
		}
		entries = append(entries, e)
	}
	for classes, want := range map[bool]int{true: 0, false: 1} {
		l := &ledger{Store: "s"}
		l.arrived(entries, span{instance: entries[0].Origin.Instance, position: 4, classes: classes})
		if l.OutOfOrder != want {
			t.Errorf("classes apart %t: %d out of order, want %d", classes, l.OutOfOrder, want)
		}
	}
	entries[3].Origin.Sequence, entries[1].Origin.Sequence = 3, 4
	l := &ledger{Store: "s"}
	if l.arrived(entries, span{instance: entries[0].Origin.Instance, position: 4, classes: true}); l.OutOfOrder != 1 {
		t.Errorf("within a class: %d out of order, want 1", l.OutOfOrder)
	}
}
