package summary

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/internal/sample"
)

// some are entries of one organization, with their stamps.
func some(n int, seed uint64) (all []*audit.Entry) {
	o := sample.Options{Organizations: 1, Entries: n, Until: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC), Span: 24 * time.Hour, Seed: seed}
	for e, stamp := range sample.Entries(o) {
		stamp.On(e)
		all = append(all, e)
	}
	return all
}

func summaryOf(all []*audit.Entry) Summary {
	var m Maker
	for _, e := range all {
		b := e.Brief()
		m.Add(&b, e)
	}
	return m.Summary()
}

func may(s Summary, q *forwarder.Query) bool {
	l := NewLookup(q)
	return l.MayHaveValues(s.Values) && l.MayHaveText(s.Texts)
}

// about are queries about an entry, of each kind, that select it.
func about(e *audit.Entry, rng *rand.Rand) (all []forwarder.Query) {
	b := e.Brief()
	add := func(f forwarder.Filters) {
		all = append(all, forwarder.Query{Filters: f}, forwarder.Query{Filters: f, AsMember: true})
	}
	add(forwarder.Filters{Actors: []string{"somebody", b.Actor}})
	add(forwarder.Filters{Actors: []string{b.Email}, Projects: []string{e.ProjectRef}})
	add(forwarder.Filters{Actions: []string{b.Action}, Methods: []string{"X", b.Method}})
	add(forwarder.Filters{TokenTypes: []string{string(b.TokenType)}})
	add(forwarder.Filters{TokenTypes: []string{string(audit.TokenUnknown)}})
	add(forwarder.Filters{Outcomes: []string{string(b.Outcome)}})
	add(forwarder.Filters{Targets: []string{b.TargetType}})
	add(forwarder.Filters{Targets: []string{b.Target}})
	add(forwarder.Filters{Targets: []string{b.TargetType + "/" + b.Target}})
	first := rng.IntN(b.Status + 1)
	add(forwarder.Filters{Statuses: []forwarder.StatusRange{{First: first, Last: b.Status + rng.IntN(200)}}})
	add(forwarder.Filters{Statuses: []forwarder.StatusRange{{First: b.Status, Last: b.Status}}})
	if a, err := netip.ParseAddr(e.Actor.IP); err == nil {
		p, _ := a.Prefix(rng.IntN(a.BitLen() + 1))
		add(forwarder.Filters{Networks: []netip.Prefix{p}})
		p, _ = netip.AddrFrom16(a.As16()).Prefix(rng.IntN(129))
		add(forwarder.Filters{Networks: []netip.Prefix{p}})
	}
	for _, text := range forwarder.AppendTexts(nil, e) {
		if text == "" {
			continue
		}
		from := rng.IntN(len(text))
		part := text[from : from+1+rng.IntN(len(text)-from)]
		add(forwarder.Filters{Text: text})
		add(forwarder.Filters{Text: strings.ToUpper(part)})
	}
	return all
}

func TestASummaryNeverHidesWhatItIsOf(t *testing.T) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 1))
		all := some(400, seed)
		for i, e := range all {
			switch rng.IntN(8) {
			case 0:
				e.Actor.IP = []string{"2001:db8:1:2::77", "fe80::1%eth0", "::ffff:192.0.2.1", "no address"}[rng.IntN(4)]
			case 1:
				e.Action.Path = fmt.Sprintf("/v1/ÄPFEL/%d/ſtraße/\xff\xfe/İ%s", i, e.RequestID)
			case 2:
				e.TraceID = strings.Repeat("0af7651916cd43dd", 1+rng.IntN(4))
			case 3:
				e.ProjectRef = strings.Repeat("p", 200) + fmt.Sprint(i)
			case 4:
				e.Membership = audit.MembershipUnproven
			}
		}
		made := summaryOf(all[:200])
		for _, e := range all[200:] { // what comes later
			b := e.Brief()
			made.Add(&b, e)
		}
		found := 0
		for _, e := range all {
			for _, q := range about(e, rng) {
				if q.Matches(e) {
					found++
					if !may(made, &q) {
						t.Errorf("%+v (as a member: %v) selects entry %s, and its summary hides it", q.Filters, q.AsMember, e.ID)
					}
				}
			}
		}
		if found < 10*len(all) {
			t.Errorf("only %d times an entry was selected", found)
		}
		made.AddUnknown()
		if q := (forwarder.Query{Filters: forwarder.Filters{Actors: []string{"nobody"}, Text: "nowhere"}}); !may(made, &q) {
			t.Error("nobody knows what an entry has that cannot be read, and its summary says that it does not have something")
		}
	}
}

// What does not occur is passed over nearly always, and costs little room.
func TestASummaryTellsWhatDoesNotOccur(t *testing.T) {
	made := summaryOf(some(512, 1))
	if n := len(made.Values) + len(made.Texts); n > 8*512 {
		t.Errorf("%d bytes for 512 entries", n)
	}
	seen, asked := 0, 0
	for n := range 500 {
		for _, f := range []forwarder.Filters{
			{Actors: []string{fmt.Sprintf("nobody-%d@example.com", n)}},
			{Targets: []string{fmt.Sprintf("edge_function/none-%d", n)}},
			{Networks: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(n >> 8), byte(n), 9}), 20+n%13)}},
			{Statuses: []forwarder.StatusRange{{First: 600 + n%300, Last: 603 + n%300}}},
			{Text: fmt.Sprintf("quokka-%d", n)},
			{Text: fmt.Sprintf("0198c0de-1234-7abc-8def-%012x", n)},
		} {
			asked++
			if may(made, &forwarder.Query{Filters: f}) {
				seen++
			}
		}
	}
	if seen > asked/20 {
		t.Errorf("%d of %d that do not occur seem to", seen, asked)
	}
	for name, f := range map[string]forwarder.Filters{
		"a short text": {Text: "zz"}, "a part of an id": {Text: "0198c0de"}, "all addresses": {Networks: []netip.Prefix{netip.MustParsePrefix("::/0")}},
	} {
		if !may(made, &forwarder.Query{Filters: f}) {
			t.Errorf("a summary knows nothing about %s, and says that it does not occur", name)
		}
	}
}

// The files have these.
func TestTheFormatStays(t *testing.T) {
	f := newFilter(100)
	for n := range 100 {
		f.Add(key(everybody, forwarder.FacetActor, fmt.Sprint(n)))
		f.Add(gramKey(operators, "a/"+string(rune('a'+n%26))))
	}
	const want = "126 07ad6fd7d566c719f273deef3f5187855be95dcaaf11d2f7"
	if got := fmt.Sprintf("%d %x", len(f), f[:24]); got != want {
		t.Errorf("the filter is %s, want %s", got, want)
	}
}

func TestNoBytesMakeAFilterPanic(t *testing.T) {
	for _, f := range []Filter{nil, {}, {7}, {0, 0}, {255, 0}, {32, 255}, {1, 0}} {
		f.Add(1 << 40)
		f.Has(1)
	}
	if !(Filter{}).Has(1) || !(Filter{7}).Has(1) || !(Filter{200, 0, 0}).Has(1) {
		t.Error("a filter that nobody here has made says that something is not there")
	}
}

// Whatever a text is a part of has all that the part is looked for by.
func FuzzAPartOfATextIsFound(f *testing.F) {
	f.Add("/v1/projects/abcdefghijklmnopqrst/functions/hello-world", 4, 12)
	f.Add("req-0198c0de-1234-7abc-8def-0123456789ab-0af7651916cd43dd8448eb211c80319c4", 1, 60)
	f.Add("ÄÖÜ ſ İ \xff\xfe", 1, 5)
	f.Fuzz(func(t *testing.T, text string, from, length int) {
		if from < 0 || length < 0 || from > len(text) || length > len(text)-from {
			return
		}
		whole, part := forwarder.Fold(text), forwarder.Fold(text[from:from+length])
		if !strings.Contains(whole, part) {
			return
		}
		has := map[uint64]bool{}
		textKeys(everybody, whole, func(k uint64) { has[k] = true })
		textKeys(everybody, part, func(k uint64) {
			if !has[k] {
				t.Errorf("%q has not all that %q is looked for by", text, part)
			}
		})
	})
}
