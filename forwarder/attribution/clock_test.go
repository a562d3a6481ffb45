package attribution

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// An entry of tomorrow, made before the clock was put right, is no reason to ask for ever,
// nor to wait for a day.
func TestAnEntryOfTheFutureArrivedNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		r := newRig(t, p)
		defer r.close()
		tomorrow := call(project(ref), at(time.Now().Add(day)))
		if got := say(r.learnt(tomorrow)); got != final {
			t.Error(got)
		}
		r.stamped(tomorrow, final)
		synctest.Wait()
		if p.questions() != 2 {
			t.Errorf("%d questions", p.questions())
		}
		p.set(func(p *platform) { p.fails = errDown })
		began := time.Now()
		if s := await(t.Context(), r.Directory, call(organization("other"), at(began.Add(day)))); s.Pending || time.Since(began) != patience {
			t.Errorf("waited %s", time.Since(began))
		}
	})
}

// What was learned while the clock was a day ahead is learned anew when that is put back.
func TestAClockThatIsPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		r := newRig(t, p)
		defer r.close()
		r.learnt(call(project(ref)))
		ahead := time.Now().Add(day).UnixMicro()
		r.Directory.mu.Lock()
		for _, table := range []*table{r.projects, r.ids, r.slugs} {
			for _, rec := range table.all() {
				rec.facts[0].First, rec.facts[0].Last = ahead, ahead
			}
		}
		for pair := range r.members {
			r.members[pair] = proof{ahead, ahead}
		}
		r.Directory.mu.Unlock()
		p.set(owned("o-2", "other"))
		if got := say(r.learnt(call(project(ref)))); got != "o-2 other proven free free" {
			t.Error(got)
		}
		r.learnt(call(organization("acme")))
		if s := r.Stamp(call(organization("acme"), status(403))); s.Membership != audit.MembershipProven {
			t.Error("a member is not known again")
		}
		if p.questions() != 5 {
			t.Errorf("%v was asked for", p.asked)
		}
	})
}

func TestAPlanThatTheAPISaysAloneCounts(t *testing.T) {
	r := newRig(t, newPlatform(), func(o *Options) { o.Projects, o.Organizations = nil, nil })
	defer r.close()
	plan := func(e *audit.Entry) { e.OrganizationPlan = "enterprise" }
	r.stamped(call(project(ref), plan), "- - - enterprise enterprise")
	r.stamped(call(plan), "- - - enterprise enterprise")
	r.stamped(call(plan, status(403)), "- - - default -")
	r.stamped(call(plan, unverified), "- - - unattributed -")
	r.stamped(call(organization("acme"), plan, status(403)), "- - unproven default -")
	r.stamped(call(organization("acme"), plan), "- - proven enterprise enterprise")
}

func TestAServiceThatNamesOnlyWhatItWasNotAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		p.owner[ref] = answer{id: "o-1"}
		p.plan = map[string]answer{"acme": {id: "o-1", plan: "free"}, "o-1": {plan: "free"}}
		r := newRig(t, p)
		defer r.close()
		if got := say(r.learnt(call(organization("acme")))); got != "o-1 - proven free free" {
			t.Error(got)
		}
		// By the answer for the slug, the id is known too, and which slug it has.
		if got := say(r.learnt(call(project(ref)))); got != "o-1 acme proven free free" || p.questions() != 2 {
			t.Errorf("%s after %v", got, p.asked)
		}
		// By the id alone, where no slug is known.
		p2 := newPlatform()
		p2.owner[ref], p2.plan = p.owner[ref], p.plan
		r2 := newRig(t, p2)
		defer r2.close()
		if got := say(r2.learnt(call(project(ref)))); got != "o-1 - proven free free" {
			t.Errorf("%s after %v", got, p2.asked)
		}
	})
}

// A service may know no ids at all.
func TestAnOrganizationThatHasNoID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		p.owner[ref] = answer{slug: "acme"}
		p.plan["acme"] = answer{plan: "free"}
		r := newRig(t, p)
		defer r.close()
		if got := say(r.learnt(call(project(ref)))); got != "- acme proven free free" || p.questions() != 2 {
			t.Errorf("%s after %v", got, p.asked)
		}
		time.Sleep(time.Minute)
		r.stamped(call(organization("acme")), "- - proven free free")
		p.set(func(p *platform) { p.plan["acme"] = answer{plan: "enterprise"} })
		time.Sleep(3 * time.Hour)
		changes := r.Changes(0)
		if len(changes) != 1 || changes[0].OrganizationID != "" || changes[0].OrganizationSlug != "acme" || changes[0].Plan != "enterprise" {
			t.Errorf("%+v", changes)
		}
	})
}

func TestAPlanIsReadAsItWasKnownLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		r := newRig(t, p)
		defer r.close()
		if _, ok := r.Plan("acme"); ok || p.questions() != 0 {
			t.Error("somebody who reads has an organization asked for that nobody has heard of")
		}
		r.learnt(call(organization("acme")))
		time.Sleep(30 * day)
		p.set(planned("free"))
		if plan, ok := r.Plan("acme"); !ok || plan != "enterprise" {
			t.Errorf("plan %q", plan)
		}
		synctest.Wait()
		for _, name := range []string{"acme", "o-1"} {
			if plan, _ := r.Plan(name); plan != "free" {
				t.Errorf("the plan of %s is still %q", name, plan)
			}
		}
		if p.questions() != 2 {
			t.Errorf("%d questions", p.questions())
		}
	})
}

func TestOtherOptionsKeepWhatIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		r := newRig(t, p)
		defer r.close()
		e := call(project(ref))
		r.learnt(e)
		if err := r.Configure(Options{Timeout: time.Hour}); err == nil {
			t.Error("a timeout of an hour is taken")
		}
		r.stamped(e, final)
		if err := r.Configure(Options{Static: map[string]string{"acme": "free"}, Keep: keepByPlan(t)}); err != nil {
			t.Fatal(err)
		}
		r.stamped(e, "o-1 acme proven free free")
		// What is due finds nobody to ask.
		time.Sleep(time.Minute)
		r.Stamp(call(project(ref)))
		time.Sleep(3 * time.Hour)
		if p.questions() != 2 {
			t.Errorf("%d questions", p.questions())
		}
	})
}
