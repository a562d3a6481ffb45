//go:build unix

package retention

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/attribution"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/postgres"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/sqlite"
	"github.com/caddy-audit-log/caddy-audit-log/internal/pgtest"
)

// The size of the trial. The whole one is
//
//	go test ./bench/retention -run Year -v -timeout 60m -organizations 1000 -days 365 -calls 3000 -interval 1h
var (
	flagOrganizations = flag.Int("organizations", 20, "how many organizations there are")
	flagDays          = flag.Int("days", 36, "how long it goes on")
	flagCalls         = flag.Int("calls", 50, "how many calls there are in a day")
	flagSeed          = flag.Uint64("seed", 0, "what is random; 0 is another one each time")
	interval          = flag.Duration("interval", 6*hour, "how often a store is asked what has expired")
)

const (
	day  = 24 * time.Hour
	hour = time.Hour
	// step is how often something happens.
	step = 6 * hour
	// slack is what it may take beyond the interval: a look in each, and the step in which it
	// is asked for.
	slack = 3 * hour
	// margin is what is kept beyond a term: up to the second day after it.
	margin = 2 * day
	// noticed is within which time beyond the interval a plan that has changed is noticed:
	// the TTL, and how long questions wait for one another.
	noticed = attribution.DefaultTTL + 10*time.Minute
)

// plans are what an organization may have, and how long its entries are kept then.
var plans = map[string]int{"free": 30, "pro": 60, "team": 120, "enterprise": 300}

const (
	defaultDays      = 200
	unattributedDays = 7
)

func keep() *audit.Keep {
	k := &audit.Keep{Default: audit.Days(defaultDays), Unattributed: audit.Days(unattributedDays)}
	for plan, days := range plans {
		k.Classes = append(k.Classes, audit.KeepClass{Name: plan, Term: audit.Days(days), Plans: []string{plan}})
	}
	return k
}

// since is something that is so from a time on.
type since[T any] struct {
	at time.Time
	is T
}

// at is what was so at a time.
func at[T any](history []since[T], t time.Time) T {
	i := len(history) - 1
	for i > 0 && history[i].at.After(t) {
		i--
	}
	return history[i].is
}

// world is what is true, and the services that tell it.
type world struct {
	mu       sync.Mutex
	plans    [][]since[string] // by organization
	owners   [][]since[int]    // by project
	projects map[string]int    // by ref
	answers  [][]since[string] // which plan each organization was said to have, each time
	asked    int
}

func slug(n int) string { return fmt.Sprintf("org-%d", n) }

// refOf is a project's: 20 lower-case letters.
func refOf(n int) string {
	b := []byte("project" + strings.Repeat("a", 13))
	for i := len(b) - 1; n > 0; i-- {
		b[i] = byte('a' + n%26)
		n /= 26
	}
	return string(b)
}

// RoundTrip implements http.RoundTripper: it is the platform's API.
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	answer := map[string]string{}
	if p, ok := w.projects[name]; ok {
		owner := w.owners[p][len(w.owners[p])-1].is
		answer["organization_id"], answer["organization_slug"] = "id-"+slug(owner), slug(owner)
	} else {
		n, err := strconv.Atoi(strings.TrimPrefix(name, "org-"))
		if err != nil {
			return &http.Response{StatusCode: http.StatusNotFound, Body: http.NoBody, Request: r}, nil
		}
		plan := w.plans[n][len(w.plans[n])-1].is
		w.answers[n] = append(w.answers[n], since[string]{time.Now(), plan})
		answer["id"], answer["slug"], answer["plan"] = "id-"+name, name, plan
	}
	b, err := json.Marshal(answer)
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(b)), Request: r}, err
}

// truth is what the oracle knows of one entry.
type truth struct {
	arrived time.Time
	// least is until when it must be kept, and most is until when it may be: where plans
	// decide, settle says so.
	least, most time.Time
	plans, both bool // plans decide, or they or the default
	settled     bool
	stamped     time.Time // from when on the stores must say so
	noticed     bool      // it was said that no answer came in time
	owner       int
	// What holds select it by. What a stranger names in a path may be taken for that
	// organization's.
	organization string
	user         string
	stranger     bool
	// until is what the stores said last of how long it is kept.
	until [2]int64
	// gone says that it was not there any more.
	gone [2]bool
}

// hold is one that is set at a time and perhaps released.
type hold struct {
	forwarder.Hold
	released time.Time
}

// selects reports whether the hold is about an entry: surely, or perhaps.
func (h *hold) selects(e *truth) (surely, perhaps bool) {
	if !h.From.IsZero() && e.arrived.Before(h.From) || !h.To.IsZero() && !e.arrived.Before(h.To) {
		return false, false
	}
	if h.Actor != "" && h.Actor != e.user {
		return false, false
	}
	switch {
	case h.Organization == "":
		return true, true
	case h.Organization != e.organization:
		return false, false
	}
	return !e.stranger, true
}

// year is one run.
type year struct {
	t      *testing.T
	rng    *rand.Rand
	world  *world
	dir    *attribution.Directory
	stores []forwarder.Keeper
	names  []string
	truths map[string]*truth
	holds  []*hold
	next   uint64

	early, late, heldDeleted, shortened, back, unnoticed int
	upgrades, transfers, unseen                          int
}

func TestAYearOfOrganizationsIsKeptAsLongAsPromised(t *testing.T) {
	seed := *flagSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	server, err := pgtest.Start(map[string]string{"fsync": "off"}) // nobody kills it
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		y := &year{t: t, rng: rand.New(rand.NewPCG(seed, 9)), truths: map[string]*truth{}}
		y.run(dir, func() (string, error) { return server.DSN(nil), nil })
	})
}

func (y *year) run(dir string, dsn func() (string, error)) {
	t, now := y.t, time.Now()
	y.world = &world{projects: map[string]int{}, answers: make([][]since[string], *flagOrganizations)}
	all := []string{"free", "pro", "team", "enterprise"}
	for n := range *flagOrganizations {
		y.world.plans = append(y.world.plans, []since[string]{{now, all[n%len(all)]}})
		for range 2 {
			p := len(y.world.owners)
			y.world.owners = append(y.world.owners, []since[int]{{now, n}})
			y.world.projects[refOf(p)] = p
		}
	}
	lite, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(dir, "audit.db")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	pg, err := postgres.Open(t.Context(), postgres.Config{DSN: dsn}, nil)
	if err != nil {
		t.Fatal(err)
	}
	y.stores, y.names = []forwarder.Keeper{lite}, []string{"sqlite"}
	if k, ok := any(pg).(forwarder.Keeper); ok {
		y.stores, y.names = append(y.stores, k), append(y.names, "postgres")
	} else {
		defer pg.Close()
	}
	o := attribution.Options{Keep: keep(), Transport: y.world, File: filepath.Join(dir, "organizations")}
	o.Projects, o.Organizations = attribution.Supabase("https://api.example.com", nil)
	if y.dir, err = attribution.New(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var keeping sync.WaitGroup
	for i, store := range y.stores {
		k := forwarder.NewKeeping(y.names[i], func(do func(forwarder.Keeper) error) error { return do(store) }, forwarder.KeepingOptions{
			Keep: keep(), Stamper: y.dir, Changes: y.changes, Notes: new(notes), Every: *interval, LookEvery: *interval,
		})
		keeping.Go(func() { k.Run(ctx) })
		defer func() {
			if st := k.Status(); st.LastError != "" {
				t.Errorf("%s: %s", y.names[i], st.LastError)
			}
		}()
	}
	for n := range *flagDays * int(day/step) {
		y.happens()
		time.Sleep(10 * time.Minute)
		y.calls(*flagCalls * int(step) / int(day))
		time.Sleep(step - 10*time.Minute)
		if n%int(10*day/step) == 0 {
			y.check()
		}
	}
	y.check()
	cancel()
	keeping.Wait()
	y.conclude()
	for _, store := range y.stores {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := y.dir.Close(); err != nil {
		t.Error(err)
	}
}

// notes keep one in memory.
type notes struct {
	mu   sync.Mutex
	note []byte
}

// Note implements forwarder.Notes.
func (n *notes) Note() []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.note
}

// SetNote implements forwarder.Notes.
func (n *notes) SetNote(b []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note = bytes.Clone(b)
	return nil
}

func (y *year) changes(after uint64) (all []forwarder.Change) {
	for _, c := range y.dir.Changes(after) {
		all = append(all, forwarder.Change{Number: c.Number, OrganizationID: c.OrganizationID, OrganizationSlug: c.OrganizationSlug, From: c.From, To: c.To})
	}
	return all
}

// happens changes plans, hands projects over, sets and releases holds.
func (y *year) happens() {
	now := time.Now()
	n := *flagOrganizations
	y.world.mu.Lock()
	all := []string{"free", "pro", "team", "enterprise"}
	for range 1 + n/100 { // each organization about five times in a year
		of := y.rng.IntN(n)
		y.world.plans[of] = append(y.world.plans[of], since[string]{now, all[y.rng.IntN(len(all))]})
		y.upgrades++
	}
	var moved []int
	for range 1 + n/400 {
		p := y.rng.IntN(len(y.world.owners))
		y.world.owners[p] = append(y.world.owners[p], since[int]{now, y.rng.IntN(n)})
		moved = append(moved, p)
		y.transfers++
	}
	y.world.mu.Unlock()
	for _, p := range moved {
		y.dir.Transferred(refOf(p), now, now)
	}
	if y.rng.IntN(4) == 0 {
		h := &hold{Hold: forwarder.Hold{ID: fmt.Sprintf("hold-%d", len(y.holds)), Reason: "a trial", Since: now}}
		switch y.rng.IntN(3) {
		case 0:
			h.Organization = slug(y.rng.IntN(n))
		case 1:
			h.Actor = fmt.Sprintf("user-%d", y.rng.IntN(3*n))
		default:
			h.Organization = slug(y.rng.IntN(n))
			h.From = now.Add(-time.Duration(y.rng.IntN(60)) * day)
			h.To = h.From.Add(time.Duration(1+y.rng.IntN(40)) * day)
		}
		for _, store := range y.stores {
			if err := store.SetHold(context.Background(), h.Hold); err != nil {
				y.t.Fatal(err)
			}
		}
		y.holds = append(y.holds, h)
	}
	for _, h := range y.holds {
		if h.released.IsZero() && y.rng.IntN(200) == 0 {
			for _, store := range y.stores {
				if err := store.ReleaseHold(context.Background(), h.ID); err != nil {
					y.t.Fatal(err)
				}
			}
			h.released = now
		}
	}
}

// calls makes entries of calls that arrive now.
func (y *year) calls(count int) {
	var batches [2][]forwarder.Record
	for range count {
		y.next++
		now := time.Now().Add(time.Duration(y.next%1000) * time.Microsecond)
		p := y.rng.IntN(len(y.world.owners))
		owner := at(y.world.owners[p], now)
		e := &audit.Entry{
			ID: audit.NewID(), Revision: audit.RevisionAnswer, Timestamp: now.UnixMicro(), ProjectRef: refOf(p), SchemaVersion: audit.SchemaVersion,
			Action:  audit.Action{Code: "v1-get-project", Method: "GET", Route: "/v1/projects/{ref}", Status: 200, StatusSource: audit.StatusWritten},
			Actor:   audit.Actor{TokenType: audit.TokenJWT, Verification: audit.VerificationSignature, UserID: fmt.Sprintf("user-%d", 3*owner+y.rng.IntN(3))},
			Outcome: audit.OutcomeSuccess, Policy: audit.Policy{Rule: "default", Level: audit.LevelMetadata, Durability: audit.DurabilityAnswer},
		}
		tr := &truth{arrived: now, owner: owner, organization: slug(owner), user: e.Actor.UserID}
		kept := func(days int) time.Time { return now.Add(time.Duration(days) * day) }
		switch y.rng.IntN(20) {
		case 0, 1: // a stranger
			e.Actor = audit.Actor{TokenType: audit.TokenUnknown, TokenHash: "h", Verification: audit.VerificationNone}
			e.Action.Status, e.Outcome = 401, audit.OutcomeDenied
			tr.least, tr.most, tr.user, tr.stranger = kept(unattributedDays), kept(unattributedDays), "", true
		case 2: // somebody of another organization: the operator's, or a member's mistake
			e.Action.Status, e.Outcome = 403, audit.OutcomeDenied
			tr.stranger, tr.plans, tr.both = true, true, true
		default:
			tr.plans = true
		}
		y.truths[e.ID] = tr
		e.Origin = &audit.Origin{Instance: "0198c0de-0000-7000-8000-000000000009", Sequence: y.next}
		doc, err := e.Encode()
		if err != nil {
			y.t.Fatal(err)
		}
		for i := range y.stores {
			own := *e
			s := y.dir.Stamp(&own)
			s.On(&own)
			batches[i] = append(batches[i], forwarder.Record{Sequence: y.next, Entry: &own, JSON: doc, Stamp: &s})
		}
	}
	for i, store := range y.stores {
		if err := store.Write(context.Background(), batches[i]); err != nil {
			y.t.Fatal(err)
		}
	}
}

// settle finds until when an entry must be kept, and may be, where plans decide.
//
// A plan is known by asking, so what is owed goes by the answers and not by what was true
// when the call came: it is kept for as long as the longer says of the last answer before
// it and the first one after it. What was true counts nowhere else, for nobody can know it:
//
//   - Before the first answer of all, none tells of an earlier plan. An organization that
//     goes from enterprise to free after its first call, and before it is asked about for
//     the first time, is a free one, as if it had always been.
//   - A plan that came and went between two answers was in neither.
//
// Both are common here, where plans change each six hours and it is looked as rarely whether
// there is something to ask, instead of each minute. So that silence excuses nothing, each
// call about which questions are asked must have an answer after it, within the TTL.
func (y *year) settle(id string, tr *truth) {
	if !tr.plans || tr.settled {
		return
	}
	y.world.mu.Lock()
	defer y.world.mu.Unlock()
	answers := y.world.answers[tr.owner]
	next := sort.Search(len(answers), func(i int) bool { return answers[i].at.After(tr.arrived) })
	after := time.Now()
	least := 0
	if tr.settled = next < len(answers); tr.settled {
		after = answers[next].at
		least = plans[answers[next].is]
	}
	if next > 0 {
		least = max(least, plans[answers[next-1].is])
	}
	most := least
	if tr.both {
		least, most = min(least, defaultDays), max(most, defaultDays)
	} else if !tr.noticed && after.Sub(tr.arrived) > *interval+noticed {
		tr.noticed = true
		if y.unnoticed++; y.unnoticed <= 5 {
			y.t.Errorf("%s of %s, arrived %s, has no answer within the TTL after it", id, tr.organization, tr.arrived.Format(time.DateTime))
		}
	}
	if tr.settled && most < plans[at(y.world.plans[tr.owner], tr.arrived)] {
		y.unseen++
	}
	tr.least = tr.arrived.Add(time.Duration(max(least, unattributedDays)) * day)
	tr.stamped = after.Add(*interval + slack)
	if tr.most = tr.arrived.Add(time.Duration(most) * day); !tr.settled {
		tr.most = time.Now() // the next answer may be the longer one
	}
}

// check holds the stores against the oracle.
func (y *year) check() {
	now := time.Now()
	for i, store := range y.stores {
		there := map[string]bool{}
		for doc, err := range store.(forwarder.Reader).Read(context.Background(), forwarder.Query{}) {
			if err != nil {
				y.t.Fatal(err)
			}
			id, until := string(doc[len(`{"id":"`):len(`{"id":"`)+36]), keepUntil(doc)
			there[id] = true
			tr := y.truths[id]
			if tr == nil {
				y.t.Fatalf("%s has %s, which nobody wrote", y.names[i], id)
			}
			if until != 0 && until < tr.until[i] {
				y.shortened++
			}
			if tr.gone[i] {
				y.back++
			}
			tr.until[i] = max(tr.until[i], until)
			y.settle(id, tr)
			// What is stamped wrongly is deleted at the wrong time, perhaps after the trial.
			switch kept := time.UnixMicro(until); {
			case tr.plans && (!tr.settled || now.Before(tr.stamped)):
			case kept.Before(tr.least):
				y.fail(&y.early, i, id, tr, "is to be deleted early: "+kept.Format(time.DateTime))
			case kept.After(tr.most.Add(margin)):
				y.fail(&y.late, i, id, tr, "is to be kept too long: "+kept.Format(time.DateTime))
			}
		}
		for id, tr := range y.truths {
			y.settle(id, tr)
			if there[id] {
				if now.After(y.mostOf(tr).Add(margin + *interval + slack)) {
					y.fail(&y.late, i, id, tr, "is kept too long")
				}
				continue
			}
			if !tr.gone[i] {
				tr.gone[i] = true
				if now.Before(tr.least) {
					y.fail(&y.early, i, id, tr, "is deleted early")
				}
				if y.isHeld(tr, now) {
					y.fail(&y.heldDeleted, i, id, tr, "is held and deleted")
				}
			}
			if !slices.Contains(tr.gone[:len(y.stores)], false) && now.After(tr.most.Add(100*day)) {
				delete(y.truths, id) // nobody asks any more
			}
		}
	}
}

// keepUntil reads it from an entry's JSON; zero is none.
func keepUntil(doc []byte) int64 {
	const name = `"keep_until":`
	i := bytes.LastIndex(doc, []byte(name))
	if i < 0 {
		return 0
	}
	rest := doc[i+len(name):]
	end := slices.IndexFunc(rest, func(b byte) bool { return b < '0' || b > '9' })
	n, _ := strconv.ParseInt(string(rest[:end]), 10, 64)
	return n
}

func (y *year) fail(count *int, store int, id string, tr *truth, what string) {
	if *count++; *count <= 5 {
		y.t.Errorf("day %d: %s: %s of %s, arrived %s, to be kept %s to %s, %s", int(time.Since(tr.arrived)/day), y.names[store], id, tr.organization,
			tr.arrived.Format(time.DateTime), tr.least.Format(time.DateTime), tr.most.Format(time.DateTime), what)
	}
}

// mostOf is until when an entry may be there: holds that may be about it count, as long
// as they are in force, and until they were released.
func (y *year) mostOf(tr *truth) time.Time {
	most := tr.most
	for _, h := range y.holds {
		if _, perhaps := h.selects(tr); !perhaps || h.Since.After(most.Add(margin+*interval+slack)) {
			continue
		}
		if h.released.IsZero() {
			return time.Now()
		}
		if h.released.After(most) {
			most = h.released
		}
	}
	return most
}

// isHeld reports whether a hold surely keeps an entry. What was gone before the hold came
// is nobody's to keep, so only holds that were there before it could expire count.
func (y *year) isHeld(tr *truth, now time.Time) bool {
	return slices.ContainsFunc(y.holds, func(h *hold) bool {
		surely, _ := h.selects(tr)
		return surely && h.released.IsZero() && h.Since.Before(tr.least) && !now.Before(h.Since)
	})
}

// conclude says how it went.
func (y *year) conclude() {
	left := 0
	for _, tr := range y.truths {
		if !tr.gone[0] {
			left++
		}
	}
	for i, store := range y.stores {
		lost, err := store.Lost(context.Background())
		if err != nil || len(lost) > 0 {
			y.t.Errorf("%s: lost %v, %v", y.names[i], lost, err)
		}
		classes, err := store.Classes(context.Background())
		total := int64(0)
		for _, c := range classes {
			total += c.Entries
		}
		receipts, deleted := 0, int64(0)
		for r, err := range store.Receipts(context.Background()) {
			if err != nil {
				y.t.Fatal(err)
			}
			receipts++
			deleted += r.Entries
		}
		if err != nil || total+deleted != int64(y.next) {
			y.t.Errorf("%s: %d entries are there and receipts tell of %d, of %d; %v", y.names[i], total, deleted, y.next, err)
		}
		y.t.Logf("%s: %d entries there, %d deleted with %d receipts", y.names[i], total, deleted, receipts)
	}
	y.t.Logf("%d entries, %d changes of plan, %d transfers, %d holds, %d questions, %d calls with a plan that no answer told of: deleted early %d, kept too long %d, held and deleted %d, shortened %d, come back %d, not asked in time %d",
		y.next, y.upgrades, y.transfers, len(y.holds), y.world.asked, y.unseen, y.early, y.late, y.heldDeleted, y.shortened, y.back, y.unnoticed)
	if y.early+y.late+y.heldDeleted+y.shortened+y.back+y.unnoticed > 0 {
		y.t.Error("it was not kept as promised")
	}
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(m.Run())
}
