package attribution

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

const (
	asking = "- - - unattributed - pending"
	final  = "o-1 acme proven enterprise enterprise"
)

func TestACallIsPendingUntilItsOrganizationAndItsPlanAreKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		p.takes = 100 * time.Millisecond
		r := newRig(t, p)
		defer r.close()
		e := call(project(ref))
		before, _ := e.Encode()
		r.stamped(e, asking)
		time.Sleep(150 * time.Millisecond)
		// Now the plan is asked for.
		r.stamped(e, "o-1 acme proven unattributed - pending")
		time.Sleep(150 * time.Millisecond)
		r.stamped(e, final)
		if after, _ := e.Encode(); string(before) != string(after) {
			t.Error("the entry has changed")
		}
		s := r.Stamp(e)
		if want := term(t, "7y").KeepMicros(e.Timestamp); s.Retention.KeepUntil != want {
			t.Errorf("kept until %d, want %d", s.Retention.KeepUntil, want)
		}
		if p.questions() != 2 {
			t.Errorf("%d questions", p.questions())
		}
	})
}

func TestNothingIsAskedForWhatProvesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			name string
			e    *audit.Entry
			want string
		}{
			{"nobody's", call(project(ref), unverified), "- - unproven unattributed -"},
			{"nobody's, of an organization", call(organization("acme"), unverified), "- - unproven unattributed -"},
			{"nobody's, of nothing", call(unverified), "- - - unattributed -"},
			{"without a verification", call(project(ref), func(e *audit.Entry) { e.Actor.Verification = "" }), "- - unproven unattributed -"},
			{"denied", call(project(ref), status(403)), "- - - default -"},
			{"denied, of an organization", call(organization("acme"), status(403)), "- - unproven default -"},
			{"failed", call(project(ref), status(500)), "- - - default -"},
			{"redirected", call(organization("acme"), status(302)), "- - unproven default -"},
			{"unknown", call(project(ref), func(e *audit.Entry) { e.Outcome = audit.OutcomeUnknown }), "- - - default -"},
			{"of nothing", call(), "- - - default -"},
			{"hostile", call(project("x%2f..%2fadmin")), "- - - default -"},
			{"with a path", call(project("../admin")), "- - - default -"},
			{"too long", call(project(ref + "a")), "- - - default -"},
			{"in capitals", call(project("ABCDEFGHIJKLMNOPQRST")), "- - - default -"},
			{"a hostile slug", call(organization("x%2f..%2fadmin")), "- - proven default -"},
			{"the sidecar's", audit.Event(audit.EventStarted, time.Now(), nil), "- - - sidecar -"},
		} {
			p := newPlatform()
			r := newRig(t, p)
			r.stamped(c.e, c.want)
			synctest.Wait()
			if p.questions() != 0 {
				t.Errorf("%s: %v was asked for", c.name, p.asked)
			}
			r.close()
		}
	})
}

func TestTheOrganizationSeesAttemptsOfWhichItIsKnownThatTheyAreItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newPlatform())
		defer r.close()
		r.learnt(call(project(ref)))
		r.stamped(call(project(ref), unverified), "o-1 acme unproven unattributed -")
		// A stranger with a verified credential buys no more than the default.
		r.stamped(call(project(ref), by("eve"), status(403)), "o-1 acme unproven default -")
		// The organization's own member is known by the call before.
		r.stamped(call(project(ref), status(403)), "o-1 acme proven enterprise enterprise")
		time.Sleep(day + time.Second)
		if s := r.Stamp(call(organization("acme"), status(403))); s.Membership != audit.MembershipUnproven {
			t.Errorf("still %s after a day", s.Membership)
		}
	})
}

// learnt stamps an entry until it is final.
func (r *rig) learnt(e *audit.Entry) audit.Stamp {
	r.t.Helper()
	for range 100 {
		s := r.Stamp(e)
		if !s.Pending {
			return s
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
	}
	r.t.Fatalf("%s is still pending", e.ProjectRef)
	return audit.Stamp{}
}

func TestMembershipIsProvenByTheActorsOwnCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newPlatform())
		defer r.close()
		r.learnt(call(organization("acme")))
		denied := func(change ...func(*audit.Entry)) *audit.Entry {
			return call(append(change, organization("acme"), status(403))...)
		}
		for _, c := range []struct {
			name string
			e    *audit.Entry
			want audit.Membership
		}{
			{"the same user", denied(), audit.MembershipProven},
			{"another one", denied(by("eve")), audit.MembershipUnproven},
			{"before that", denied(at(time.Now().Add(-time.Hour))), audit.MembershipUnproven},
			{"another organization", call(organization("other"), status(403)), audit.MembershipUnproven},
			{"unverified", denied(func(e *audit.Entry) { e.Actor.Verification = audit.VerificationNone }), audit.MembershipUnproven},
		} {
			if s := r.Stamp(c.e); s.Membership != c.want {
				t.Errorf("%s: %s", c.name, s.Membership)
			}
		}
		robot := func(e *audit.Entry) {
			e.Actor = audit.Actor{TokenType: audit.TokenV1, TokenHash: "h", Verification: audit.VerificationAccepted}
		}
		key := func(e *audit.Entry) {
			e.Actor = audit.Actor{TokenType: audit.TokenAnon, TokenHash: "k", Verification: audit.VerificationSignature}
		}
		r.learnt(call(organization("acme"), robot))
		r.learnt(call(organization("acme"), key))
		if s := r.Stamp(denied(robot)); s.Membership != audit.MembershipProven {
			t.Error("a token is not known by its hash")
		}
		if s := r.Stamp(denied(key)); s.Membership != audit.MembershipUnproven {
			t.Error("a key that everybody has proves something")
		}
	})
}

func TestTheOrderOfBelief(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		captured := func(id, slug, plan string) func(*audit.Entry) {
			return func(e *audit.Entry) { e.OrganizationID, e.OrganizationSlug, e.OrganizationPlan = id, slug, plan }
		}
		static := func(o *Options) { o.Static = map[string]string{"acme": "free", "o-9": "enterprise"} }
		for _, c := range []struct {
			name string
			e    *audit.Entry
			want string
			asks int
		}{
			{"captured with its plan", call(captured("o-1", "acme", "enterprise"), project(ref)), "- - proven enterprise enterprise", 0},
			{"captured, static plan by slug", call(captured("", "acme", "")), "- - proven free free", 0},
			{"captured, static plan by id", call(captured("o-9", "", "")), "- - proven enterprise enterprise", 0},
			{"captured before static", call(captured("o-9", "", "free")), "- - proven free free", 0},
			{"captured slug, looked up", call(captured("", "other", "")), "o-2 - proven free free", 1},
			{"a project, its owner's static plan", call(project(ref)), "o-1 acme proven free free", 1},
		} {
			p := newPlatform()
			r := newRig(t, p, static)
			if got := say(r.learnt(c.e)); got != c.want || p.questions() != c.asks {
				t.Errorf("%s: %q after %d questions, want %q after %d", c.name, got, p.questions(), c.want, c.asks)
			}
			r.close()
		}
	})
}

func TestWhereNothingCanBeKnownNothingIsAwaited(t *testing.T) {
	r := newRig(t, newPlatform(), func(o *Options) { o.Projects, o.Organizations = nil, nil })
	defer r.close()
	r.stamped(call(project(ref)), "- - - default -")
	r.stamped(call(organization("acme")), "- - proven default -")
}

// Where no class depends on it, a plan is not waited for, but it is asked for where
// somebody reads by it.
func TestAPlanIsAwaitedOnlyWhereAClassDependsOnIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		r := newRig(t, p, func(o *Options) { o.Keep, o.NeedsPlan = &audit.Keep{}, true })
		defer r.close()
		e := call(func(e *audit.Entry) { e.OrganizationID, e.OrganizationSlug = "o-1", "acme" })
		r.stamped(e, "- - proven default -")
		synctest.Wait()
		if plan, ok := r.Plan("acme"); !ok || plan != "enterprise" || p.questions() != 1 {
			t.Errorf("plan %q, %d questions", plan, p.questions())
		}
		if plan, ok := r.Plan("o-1"); !ok || plan != "enterprise" {
			t.Errorf("plan %q by id", plan)
		}
		if _, ok := r.Plan("nobody"); ok {
			t.Error("nobody has a plan")
		}
	})
}

func TestAThousandCallsOfOneProjectAskOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		p.takes = time.Second
		r := newRig(t, p)
		defer r.close()
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() {
				if s := await(t.Context(), r.Directory, call(project(ref))); say(s) != final {
					t.Error(say(s))
				}
			})
		}
		all.Wait()
		if p.questions() != 2 {
			t.Errorf("%d questions", p.questions())
		}
	})
}

func TestAwaitWaitsForAnAnswerOrItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		p.fails = errDown
		r := newRig(t, p)
		defer r.close()
		started := time.Now()
		s := await(t.Context(), r.Directory, call(project(ref)))
		if took := time.Since(started); took != patience || say(s) != "- - - default -" {
			t.Errorf("%q after %s", say(s), took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if s := await(ctx, r.Directory, call(project(ref))); s.Pending || time.Since(began) != time.Second {
			t.Errorf("waited %s after its context was done", time.Since(began))
		}
		// It is asked again while somebody waits, and then nobody waits any more.
		p.set(func(p *platform) { p.fails = nil })
		time.Sleep(lastRetry)
		if s := await(t.Context(), r.Directory, call(project(ref))); say(s) != final {
			t.Error(say(s))
		}
	})
}

func TestAfterADayItIsFinalWithoutAPlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		p.fails = errDown
		r := newRig(t, p)
		defer r.close()
		e := call(project(ref))
		for range 24 {
			r.stamped(e, asking)
			time.Sleep(time.Hour)
		}
		r.stamped(e, asking)
		time.Sleep(time.Second)
		r.stamped(e, "- - - default -")
		if r.log.count("level=WARN") != 1 {
			t.Errorf("the log says\n%s", r.log)
		}
		p.set(func(p *platform) { p.fails = nil })
		time.Sleep(time.Minute)
		r.Stamp(e)
		synctest.Wait()
		if r.log.count("answered again") != 1 {
			t.Errorf("the log says\n%s", r.log)
		}
		// What waited in a store's backlog for two days is asked for all the same.
		old := call(organization("other"), at(time.Now().Add(-2*day)))
		if s := r.learnt(old); say(s) != "o-2 - proven free free" {
			t.Error(say(s))
		}
	})
}

func TestWhatTheServiceDoesNotKnowIsFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		r := newRig(t, p)
		defer r.close()
		e := call(project("zzzzzzzzzzzzzzzzzzzz"))
		if s := r.learnt(e); say(s) != "- - - default -" {
			t.Error(say(s))
		}
		if s := r.learnt(call(organization("nobody"))); say(s) != "- - proven default -" {
			t.Error(say(s))
		}
		n := p.questions()
		time.Sleep(DefaultNegativeTTL - time.Minute)
		r.Stamp(call(project("zzzzzzzzzzzzzzzzzzzz")))
		synctest.Wait()
		if p.questions() != n {
			t.Error("it was asked again at once")
		}
		time.Sleep(time.Minute)
		r.Stamp(call(project("zzzzzzzzzzzzzzzzzzzz")))
		synctest.Wait()
		if p.questions() != n+1 {
			t.Error("it was never asked again")
		}
	})
}

func TestQuestionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		p.takes = time.Hour // it hangs
		p.fails = errDown
		busy := 0
		r := newRig(t, p, func(o *Options) {
			o.Observe = func(_ Kind, result Result, _ time.Duration) {
				if result == ResultBusy {
					busy++
				}
			}
		})
		for n := range 3 * maxWaiting {
			r.Stamp(call(organization(fmt.Sprint("org-", n))))
		}
		synctest.Wait()
		if len(r.open) != maxWaiting || p.most > maxAsking || busy != 2*maxWaiting {
			t.Errorf("%d wait, %d are asked at once, %d were told that it is busy", len(r.open), p.most, busy)
		}
		r.close()
		if len(r.open) != 0 {
			t.Error("questions are left")
		}
	})
}

func TestTheRateOfQuestionsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		r := newRig(t, p, func(o *Options) { o.Rate = 5 })
		defer r.close()
		began := time.Now()
		for n := range 200 {
			r.Stamp(call(organization(fmt.Sprint("org-", n))))
		}
		time.Sleep(time.Minute)
		if p.questions() != 200 {
			t.Fatalf("%d questions", p.questions())
		}
		for n, at := range p.askedAt {
			if most := 5 + int(at.Sub(began)/(time.Second/5)); n+1 > most {
				t.Fatalf("question %d after %s", n+1, at.Sub(began))
			}
		}
	})
}

func BenchmarkStamp(b *testing.B) {
	r := newRig(b, newPlatform(), func(o *Options) { o.Static = map[string]string{"acme": "enterprise"} })
	defer r.close()
	for _, c := range []struct {
		name string
		e    *audit.Entry
	}{
		{"project", call(project(ref))},
		{"organization", call(organization("acme"))},
		{"denied", call(project(ref), status(403))},
		{"nobody", call(project(ref), unverified)},
	} {
		b.Run(c.name, func(b *testing.B) {
			for r.Stamp(c.e).Pending {
				time.Sleep(time.Millisecond)
			}
			b.ReportAllocs()
			for b.Loop() {
				r.Stamp(c.e)
			}
		})
	}
}
