package attribution

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// A question that was sent before the transfer and is answered after it is about the old
// owner.
func TestAnAnswerThatATransferOvertookIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		p.takes = time.Second
		r := newRig(t, p)
		defer r.close()
		r.Stamp(call(project(ref))) // the answer is that of now, a second later
		time.Sleep(100 * time.Millisecond)
		p.set(owned("o-2", "other"))
		r.Transferred(ref, time.Now(), time.Now())
		time.Sleep(100 * time.Millisecond)
		after := call(project(ref))
		r.Stamp(after)
		time.Sleep(time.Second)
		if got := say(r.learnt(after)); got != "o-2 other proven free free" {
			t.Error(got)
		}
	})
}

func TestADeletedProjectOfLongAgoIsNobodys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		r := newRig(t, p)
		defer r.close()
		r.learnt(call(project(ref)))
		time.Sleep(30 * day)
		p.set(func(p *platform) { delete(p.owner, ref) })
		if got := say(r.learnt(call(project(ref)))); got != "- - - default -" {
			t.Error(got)
		}
	})
}

func TestAClassOfOneOrganizationIsItsMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newPlatform(), func(o *Options) {
			o.Keep = &audit.Keep{Default: audit.Days(400), Classes: []audit.KeepClass{{Name: "acme", Term: audit.Forever, Organizations: []string{"o-1"}}}}
			o.Keep.Classes = append(o.Keep.Classes, audit.KeepClass{Name: "byslug", Term: audit.Forever, Organizations: []string{"other"}})
		})
		defer r.close()
		e := call(project(ref))
		if got := say(r.learnt(e)); got != "o-1 acme proven acme -" {
			t.Error(got)
		}
		if e.OrganizationID != "" {
			t.Error("the entry has changed")
		}
		// Whoever only names it buys nothing.
		r.stamped(call(organization("other"), by("eve"), status(403)), "- - unproven default -")
		r.learnt(call(organization("other")))
		r.stamped(call(organization("other"), status(403)), "o-2 - proven byslug free")
	})
}

func TestAQuestionThatFailsIsAskedAgainLessAndLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		p.fails = errDown
		r := newRig(t, p)
		defer r.close()
		began := time.Now()
		for time.Since(began) < time.Minute {
			r.Stamp(call(project(ref)))
			time.Sleep(100 * time.Millisecond)
		}
		// After 1, 2, 4, 8 seconds, and then each 15.
		if n := p.questions(); n != 7 {
			t.Errorf("%d questions in a minute", n)
		}
		p.set(func(p *platform) { p.fails = nil })
		time.Sleep(lastRetry)
		if got := say(r.learnt(call(project(ref)))); got != final {
			t.Error(got)
		}
	})
}

func TestAServiceThatLoopsOrWantsAPauseIsLeftAlone(t *testing.T) {
	for _, c := range []struct {
		name  string
		err   error
		pause time.Duration
		logs  string
	}{
		{"a loop", errLoop, loopPause, "leads through this sidecar"},
		{"a pause", &pauseError{429, 30 * time.Second}, 30 * time.Second, "wants to be asked again in 30s"},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newPlatform()
			p.fails = c.err
			r := newRig(t, p)
			defer r.close()
			r.Stamp(call(project(ref)))
			synctest.Wait()
			began := time.Now()
			for n := 0; time.Since(began) < c.pause-time.Second; n++ {
				r.stamped(call(project(strings.Repeat(string(rune('b'+n%20)), 20))), asking)
				time.Sleep(time.Second)
			}
			synctest.Wait()
			if p.questions() != 1 {
				t.Errorf("%s: %d questions", c.name, p.questions())
			}
			time.Sleep(2 * time.Second)
			r.Stamp(call(project(ref)))
			synctest.Wait()
			if p.questions() != 2 {
				t.Errorf("%s: it is never asked again", c.name)
			}
			if r.log.count("level=") != 1 || r.log.count(c.logs) != 1 {
				t.Errorf("%s: the log says\n%s", c.name, r.log)
			}
			// Another configuration may have cured it.
			if err := r.Configure(r.Directory.set.Options); err != nil {
				t.Fatal(err)
			}
			p.set(func(p *platform) { p.fails = nil })
			if got := say(r.learnt(call(project(ref)))); got != final {
				t.Errorf("%s: %s", c.name, got)
			}
		})
	}
}

// What looked like a secret in a path is recorded as the same word, whatever it was.
func TestARedactedOrganizationProvesNothingOfAnother(t *testing.T) {
	r := newRig(t, newPlatform())
	defer r.close()
	r.Stamp(call(organization("[redacted]")))
	if s := r.Stamp(call(organization("[redacted]"), status(403))); s.Membership != audit.MembershipUnproven {
		t.Error(say(s))
	}
}

func TestAnAnswerThatIsTooLongIsNotRead(t *testing.T) {
	var sent atomic.Int64
	d, _, got := served(t, func(w http.ResponseWriter, _ *http.Request) {
		chunk := strings.Repeat(" ", 1<<20)
		for range 200 {
			n, err := io.WriteString(w, chunk)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}, func(o *Options) { o.Timeout = DefaultTimeout })
	d.Stamp(call(project(ref)))
	until(t, "200 MiB", func() bool { return got.String() != "" })
	if n := sent.Load(); n > 100<<20 {
		t.Errorf("%d MiB were taken", n>>20)
	}
}

func TestAnOrganizationThatIsRenamedHasNoOtherPlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		p.plan["acme"] = answer{id: "o-1", slug: "acme-inc", plan: "free"}
		r := newRig(t, p)
		defer r.close()
		r.learnt(call(organization("acme")))
		time.Sleep(2 * time.Hour)
		p.set(func(p *platform) { p.plan["acme"] = answer{id: "o-1", slug: "acme-ltd", plan: "free"} })
		r.learnt(call(organization("acme")))
		if len(r.Changes(0)) != 0 {
			t.Errorf("%+v", r.Changes(0))
		}
	})
}

// Entries of before are stored by the name of before, and found by that.
func TestAnOrganizationThatIsRenamedAndHasAnotherPlanIsFoundByEachName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		p.plan["acme"] = answer{id: "o-1", slug: "acme-inc", plan: "free"}
		r := newRig(t, p)
		defer r.close()
		r.learnt(call(organization("acme")))
		time.Sleep(time.Minute)
		p.set(func(p *platform) {
			p.plan["acme-ltd"] = answer{id: "o-1", slug: "acme-ltd", plan: "enterprise"}
			p.plan["acme"] = p.plan["acme-ltd"]
		})
		e := call(organization("acme"))
		r.stamped(e, "o-1 - proven free free")
		time.Sleep(2 * time.Hour)
		r.learnt(call(organization("acme")))
		names := map[string]bool{}
		for _, c := range r.Changes(0) {
			names[c.OrganizationSlug] = true
			if c.OrganizationID != "o-1" || c.From.UnixMicro() > e.Timestamp || c.To.UnixMicro() < e.Timestamp {
				t.Errorf("%+v", c)
			}
		}
		for _, name := range []string{"acme", "acme-inc", "acme-ltd"} {
			if !names[name] {
				t.Errorf("nothing is said of %s: %+v", name, r.Changes(0))
			}
		}
		r.stamped(e, "o-1 - proven enterprise enterprise")
	})
}

// A store that was away is told of another plan days later, when the proof is another one.
func TestAMembersCallStaysOneWhenItIsStampedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		p.set(planned("free"))
		r := newRig(t, p)
		defer r.close()
		r.learnt(call(organization("acme")))
		time.Sleep(time.Minute)
		e := call(organization("acme"), status(403))
		s := r.Stamp(e)
		if got := say(s); got != "o-1 - proven free free" {
			t.Fatal(got)
		}
		s.On(e)
		p.set(planned("enterprise"))
		time.Sleep(3 * day)
		r.learnt(call(organization("acme")))
		r.stamped(e, "- - proven enterprise enterprise")
	})
}
