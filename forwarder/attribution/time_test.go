package attribution

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

func owned(id, slug string) func(*platform) {
	return func(p *platform) { p.owner[ref] = answer{id: id, slug: slug} }
}

func planned(plan string) func(*platform) {
	return func(p *platform) { p.plan["acme"] = answer{id: "o-1", slug: "acme", plan: plan} }
}

func TestATransferredProjectsCallsBelongToTheOwnerAtTheirTime(t *testing.T) {
	const oldOwner, newOwner = "o-1 acme proven enterprise enterprise", "o-2 other proven free free"
	for _, c := range []struct {
		name  string
		known bool // the owner before was in the cache
		// how the directory is told
		tell func(d *Directory, from, to time.Time)
		// of a call before the transfer that is only looked at afterwards
		before string
	}{
		{"by its name", true, func(d *Directory, from, to time.Time) { d.Transferred(ref, from, to) }, oldOwner},
		{"by its name, its owner unknown", false, func(d *Directory, from, to time.Time) { d.Transferred(ref, from, to) }, "- - - default -"},
		{"by a token", true, func(d *Directory, from, to time.Time) {
			d.Offered(ref, from.Add(-time.Minute))
			d.Transferred("", from, to)
		}, oldOwner},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newPlatform()
			r := newRig(t, p)
			defer r.close()
			if c.known {
				r.learnt(call(project(ref)))
			}
			time.Sleep(time.Minute)
			before := call(project(ref))
			time.Sleep(time.Minute)
			from := time.Now()
			handing := call(project(ref)) // the call that hands it over
			time.Sleep(time.Second)
			p.set(owned("o-2", "other"))
			time.Sleep(time.Second)
			c.tell(r.Directory, from, time.Now())
			time.Sleep(time.Second)
			after := call(project(ref))
			if got := say(r.learnt(after)); got != newOwner {
				t.Errorf("%s: after it %q", c.name, got)
			}
			for _, e := range []*audit.Entry{before, handing} {
				if got := say(r.learnt(e)); got != c.before {
					t.Errorf("%s: before it %q, want %q", c.name, got, c.before)
				}
			}
			// Nor does a later question change that.
			time.Sleep(2 * DefaultTTL)
			if got := say(r.learnt(call(project(ref)))); got != newOwner {
				t.Errorf("%s: later %q", c.name, got)
			}
			if got := say(r.learnt(before)); got != c.before {
				t.Errorf("%s: before it, later, %q", c.name, got)
			}
		})
	}
}

// What was answered while the transfer was under way may be about before or after.
func TestAnAnswerOfATransfersOwnTimeIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		r := newRig(t, p)
		defer r.close()
		r.learnt(call(project(ref)))
		from := time.Now()
		time.Sleep(time.Second)
		p.set(owned("o-2", "other"))
		// Somebody is asked just before the answer leaves, by way of a question that is on
		// its way when the directory is told.
		p.set(func(p *platform) { p.takes = 500 * time.Millisecond })
		r.Directory.mu.Lock()
		r.ask(key{kind: KindProject, name: ref})
		r.Directory.mu.Unlock()
		time.Sleep(100 * time.Millisecond)
		between := call(project(ref))
		r.Transferred(ref, from, time.Now().Add(time.Millisecond))
		time.Sleep(time.Second)
		if got := say(r.learnt(between)); got != "o-1 acme proven enterprise enterprise" {
			t.Errorf("a call during the transfer: %q", got)
		}
		if got := say(r.learnt(call(project(ref)))); got != "o-2 other proven free free" {
			t.Errorf("after it: %q", got)
		}
	})
}

// Where nobody told of a transfer, a refresh finds it.
func TestAnOwnerThatChangedUnseenKeepsTheCallsBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		r := newRig(t, p)
		defer r.close()
		before := call(project(ref))
		r.learnt(before)
		time.Sleep(DefaultTTL / 2)
		p.set(owned("o-2", "other"))
		unseen := call(project(ref))
		if got := say(r.learnt(unseen)); got != final {
			t.Errorf("within the TTL: %q", got)
		}
		time.Sleep(DefaultTTL)
		if got := say(r.learnt(call(project(ref)))); got != "o-2 other proven free free" {
			t.Errorf("after it: %q", got)
		}
		for _, e := range []*audit.Entry{before, unseen} {
			if got := say(r.learnt(e)); got != final {
				t.Errorf("before: %q", got)
			}
		}
		if len(r.Changes(0)) != 0 {
			t.Error("a change of owner is no change of plan")
		}
	})
}

// The last call of a project is the one that deletes it: afterwards nobody can be asked.
func TestADeletedProjectWasItsLastOwners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		r := newRig(t, p)
		defer r.close()
		r.learnt(call(project(ref)))
		time.Sleep(3 * time.Hour)
		p.set(func(p *platform) { delete(p.owner, ref) })
		deletes := call(project(ref))
		if s := r.learnt(deletes); s.OrganizationID != "o-1" || s.Membership != audit.MembershipProven {
			t.Error(say(s))
		}
		time.Sleep(time.Minute)
		if got := say(r.learnt(call(project(ref)))); got != "- - - default -" {
			t.Errorf("after that: %q", got)
		}
	})
}

func TestAPlanThatChangedIsAChangeEvenWithoutTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		p.set(planned("free"))
		r := newRig(t, p)
		defer r.close()
		r.learnt(call(organization("acme")))
		asked := time.Now()
		time.Sleep(time.Minute)
		e := call(organization("acme"))
		r.stamped(e, "o-1 - proven free free")
		time.Sleep(time.Minute)
		p.set(planned("enterprise"))
		time.Sleep(5 * time.Hour) // nobody calls
		changes := r.Changes(0)
		if len(changes) != 1 || p.questions() != 2 {
			t.Fatalf("changes %+v after %d questions", changes, p.questions())
		}
		c := changes[0]
		if c.OrganizationID != "o-1" || c.OrganizationSlug != "acme" || c.Before != "free" || c.Plan != "enterprise" {
			t.Errorf("%+v", c)
		}
		if at := time.UnixMicro(e.Timestamp); at.Before(c.From) || at.After(c.To) || c.From.After(asked) || c.To.Sub(c.From) > DefaultTTL+time.Minute {
			t.Errorf("from %s to %s does not bound %s", c.From, c.To, at)
		}
		r.stamped(e, "o-1 - proven enterprise enterprise")
		if len(r.Changes(c.Number)) != 0 {
			t.Error("it comes again")
		}
		time.Sleep(31 * day)
		if len(r.Changes(0)) != 0 {
			t.Error("it is remembered for ever")
		}
	})
}

// A plan that became less takes nothing from the calls before.
func TestADowngradeTakesNothingAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		r := newRig(t, p)
		defer r.close()
		r.learnt(call(organization("acme")))
		time.Sleep(time.Minute)
		e := call(organization("acme"))
		r.Stamp(e)
		p.set(planned("free"))
		time.Sleep(2 * DefaultTTL)
		r.stamped(e, "o-1 - proven enterprise enterprise")
		time.Sleep(time.Second)
		if got := say(r.learnt(call(organization("acme")))); got != "o-1 - proven free free" {
			t.Error(got)
		}
	})
}

// Nobody tells that the plan is another one, so the call is kept no shorter than by the one
// that was told last. Nor is it kept shorter than without any.
func TestWhereNoPlanIsToldTheLastOneCounts(t *testing.T) {
	for _, c := range []struct {
		name, plan string
		happens    func(*platform)
		call       []func(*audit.Entry)
		want       string
	}{
		{"the lookup is down", "enterprise", func(p *platform) { p.fails = errDown }, nil, "- - proven enterprise enterprise"},
		{"the lookup is down, and the plan is less than none", "free", func(p *platform) { p.fails = errDown }, nil, "- - proven default -"},
		{"the call deletes the organization", "enterprise", func(p *platform) { delete(p.plan, "acme") }, nil, "- - proven enterprise enterprise"},
		{"a stranger's", "enterprise", func(p *platform) { p.fails = errDown }, []func(*audit.Entry){by("eve"), status(403)}, "- - unproven default -"},
		{"captured with both its names", "enterprise", func(p *platform) { p.fails = errDown }, []func(*audit.Entry){func(e *audit.Entry) {
			e.OrganizationID = "o-1"
		}}, "- - proven enterprise enterprise"},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newPlatform()
			p.set(planned(c.plan))
			r := newRig(t, p)
			defer r.close()
			r.learnt(call(organization("acme")))
			time.Sleep(3 * day)
			p.set(c.happens)
			e := call(append([]func(*audit.Entry){organization("acme")}, c.call...)...)
			r.Stamp(e)
			time.Sleep(day + time.Minute)
			if got := say(r.Stamp(e)); got != c.want {
				t.Errorf("%s: %q, want %q", c.name, got, c.want)
			}
			if got := say(r.Settled(e)); got != c.want {
				t.Errorf("%s, for good: %q, want %q", c.name, got, c.want)
			}
		})
	}
}

// What was not known then is not made up later: an answer of today is none about a call of
// before another one.
func TestThePlanOfALaterAnswerIsNotTheLastOne(t *testing.T) {
	var h history
	h.learn(answer{plan: "free"}, 1000, 10)
	h.gone(2000, 10)
	h.learn(answer{plan: "enterprise"}, 3000, 10)
	for at, want := range map[int64]string{999: "", 1000: "free", 2500: "free", 3000: "enterprise", 9000: "enterprise"} {
		if f := h.before(at); f == nil && want != "" || f != nil && f.Plan != want {
			t.Errorf("at %d it is %+v, want %q", at, f, want)
		}
	}
}

func TestAnOrganizationThatChangesItsPlanEachMinuteIsAskedForByTheTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		r := newRig(t, p)
		defer r.close()
		const hours = 48
		plans := []string{"free", "enterprise"}
		for minute := range hours * 60 {
			p.set(planned(plans[minute%2]))
			for range 3 {
				r.Stamp(call(organization("acme")))
			}
			time.Sleep(time.Minute)
		}
		if n := p.questions(); n > hours+1 || n < hours-1 {
			t.Errorf("%d questions in %d hours", n, hours)
		}
		if n := len(r.Changes(0)); n > hours {
			t.Errorf("%d changes", n)
		}
		t.Logf("%d questions, %d changes in %d hours", p.questions(), len(r.Changes(0)), hours)
	})
}

func TestWhatIsKnownOutlivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		p.set(planned("free"))
		file := func(o *Options) { o.File = filepath.Join(t.TempDir(), "attribution.json") }
		var name string
		r := newRig(t, p, file, func(o *Options) { name = o.File })
		same := func(o *Options) { o.File = name }
		before := call(project(ref))
		r.learnt(before)
		time.Sleep(time.Minute)
		r.Stamp(call(project(ref)))
		r.Offered(ref, time.Now())
		r.close()

		r = newRig(t, p, same)
		r.stamped(call(project(ref)), "o-1 acme proven free free")
		r.stamped(call(project(ref), status(403)), "o-1 acme proven free free")
		if p.questions() != 2 {
			t.Errorf("%d questions", p.questions())
		}
		from := time.Now()
		p.set(owned("o-2", "other"))
		r.Transferred("", from, from.Add(time.Millisecond))
		p.set(planned("enterprise"))
		r.close()

		r = newRig(t, p, same)
		time.Sleep(2 * DefaultTTL) // the refresh is still due
		synctest.Wait()
		if got := say(r.learnt(call(project(ref)))); got != "o-2 other proven free free" {
			t.Errorf("after the transfer: %q", got)
		}
		if got := say(r.learnt(before)); got != "o-1 acme proven enterprise enterprise" && got != "o-1 acme proven free free" {
			t.Errorf("before it: %q", got)
		}
		changes := r.Changes(0)
		if len(changes) != 1 {
			t.Fatalf("%+v", changes)
		}
		r.close()
		r = newRig(t, p, same)
		if again := r.Changes(0); !slices.Equal(again, changes) {
			t.Errorf("%+v became %+v", changes, again)
		}
		if len(r.log.String()) != 0 {
			t.Errorf("the log says\n%s", r.log)
		}
		r.close()
	})
}

func TestMemoryIsBounded(t *testing.T) {
	x := newTable(100)
	for n := range 1000 {
		x.make(fmt.Sprint(n))
		x.get("0")
	}
	if len(x.records) != 100 || x.get("0") == nil || x.get("999") == nil || x.get("900") != nil {
		t.Errorf("%d are remembered", len(x.records))
	}
	var h history
	for n := range int64(100) {
		h.learn(answer{id: fmt.Sprint(n)}, n*1000, 10)
	}
	if len(h.facts) != maxFacts {
		t.Errorf("%d facts", len(h.facts))
	}
	if _, _, k := h.at(5, 10, 10); k != lost {
		t.Error("a newer answer speaks of a time that was forgotten")
	}
	m := members{}
	for n := range maxProven + 100 {
		m.prove(actor{byUser, fmt.Sprint(n)}, "o", int64(n), int64(n))
	}
	if len(m) != maxProven {
		t.Errorf("%d proofs", len(m))
	}
}

// Whatever happens to a project, no call is given to an owner that it had only later, and
// histories stay in order.
func TestNoHistoryGivesACallToALaterOwner(t *testing.T) {
	const ttl, negative = 1000, 100
	for seed := range uint64(3000) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var h history
		now := int64(1)
		owner := 0
		owners := []struct {
			from int64
			id   string
		}{{0, "0"}}
		for range 30 {
			now += rnd.Int64N(700)
			switch rnd.IntN(4) {
			case 0, 1:
				h.learn(answer{id: fmt.Sprint(owner)}, now, ttl)
			case 2:
				arrived := now
				now += 1 + rnd.Int64N(50)
				if rnd.IntN(2) == 0 { // somebody is asked in the middle
					h.learn(answer{id: fmt.Sprint(owner + rnd.IntN(2))}, now, ttl)
				}
				owner++
				now += 1 + rnd.Int64N(50)
				owners = append(owners, struct {
					from int64
					id   string
				}{now, fmt.Sprint(owner)})
				h.moved(arrived, now, ttl)
			case 3:
				at := max(0, now-rnd.Int64N(2000))
				f, _, k := h.at(at, ttl, negative)
				want := ""
				for _, o := range owners {
					if o.from <= at {
						want = o.id
					}
				}
				if k == known && f.ID != want {
					t.Fatalf("seed %d: a call at %d is given to %s and was %s's: %+v", seed, at, f.ID, want, h)
				}
			}
			for i := 1; i < len(h.facts); i++ {
				if h.facts[i].From < h.facts[i-1].Until || h.facts[i-1].Until == 0 {
					t.Fatalf("seed %d: %+v", seed, h.facts)
				}
			}
			saved := savedHistory{Name: "x", Facts: slices.Clone(h.facts), Since: h.since, None: h.none}
			if err := saved.check(now + 1); err != nil {
				t.Fatalf("seed %d: %v: %+v", seed, err, h)
			}
		}
	}
}
