package main

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

func TestMain(m *testing.M) {
	if os.Getenv("FAKE_PRODUCT") != "" {
		runFake(os.Args[1:])
	}
	os.Exit(rig.InTempDir("outage", m.Run))
}

// short are the options of a run that a test can wait for.
func short(only, store string) options {
	return options{
		Setup: rig.Setup{Caddyfile: "../../Caddyfile"},
		Only:  only, Store: store, Down: 2 * time.Second, Warm: time.Second, After: time.Second, Clients: 8, Reads: 0.5,
		Pause: 20 * time.Millisecond, Drain: time.Minute, Toxic: time.Second, Kills: 2, Every: time.Second, Quorum: time.Second, Backlog: 1000, Rounds: 1,
	}
}

func fakeRun(t *testing.T, fault string) (v *verdict, out string, err error) {
	t.Helper()
	o := short(trialOutage, httpKind)
	o.Warm, o.After = 500*time.Millisecond, 500*time.Millisecond
	if o.Caddy, err = os.Executable(); err != nil {
		t.Fatal(err)
	}
	o.Env = []string{"FAKE_PRODUCT=1", "FAKE_FAULT=" + fault}
	var b bytes.Buffer
	v, err = outage(t.Context(), o, &b)
	return v, b.String(), err
}

func TestAWholeRunAgainstAProductThatKeepsThePromise(t *testing.T) {
	t.Parallel()
	v, out, err := fakeRun(t, "")
	if err != nil || !v.Held {
		t.Errorf("got %+v, %v\n%s", v, err, out)
	}
}

func TestAWholeRunAgainstAProductThatBreaksThePromise(t *testing.T) {
	atHTTP := func(v *verdict) *ledger { return v.Trials[0].Stores[1] }
	for fault, count := range map[string]func(*verdict) int{
		"one is lost":                    func(v *verdict) int { return atHTTP(v).Missing },
		"one overtakes another":          func(v *verdict) int { return atHTTP(v).OutOfOrder },
		"one is repeated as another":     func(v *verdict) int { return atHTTP(v).WrongRepeats },
		"stores have different entries":  func(v *verdict) int { return atHTTP(v).Differ },
		"one id has two requests":        func(v *verdict) int { return v.Trials[0].Reused },
		"one request is not signed":      func(v *verdict) int { return v.Trials[0].Forged },
		"each failure is logged":         func(v *verdict) int { return v.Trials[0].WrongLog },
		"calls are refused meanwhile":    func(v *verdict) int { return v.Trials[0].Refused },
		"calls are broken off meanwhile": func(v *verdict) int { return v.Trials[0].Unanswered },
		"the terms do not add up":        func(v *verdict) int { return v.Trials[0].NotConserved },
		aHole:                            func(v *verdict) int { return v.Trials[0].Stores[0].WrongRanges },
		"sqlite has one twice":           func(v *verdict) int { return v.Trials[0].Stores[0].WrongRepeats },
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			v, out, err := fakeRun(t, fault)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if v.Held || count(v) == 0 {
				t.Errorf("was not noticed: %s\n%+v", out, v.Trials[0])
			}
		})
	}
}
