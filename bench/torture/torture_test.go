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
	os.Exit(rig.InTempDir("torture", m.Run))
}

func fakeRun(t *testing.T, kills int, fault string) (v *verdict, out string, err error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	v, err = torture(t.Context(), options{
		Setup: rig.Setup{Caddy: self, Caddyfile: "../../Caddyfile", Env: []string{"FAKE_PRODUCT=1", "FAKE_FAULT=" + fault}},
		Kills: kills, Clients: 8, Reads: 0.15, Seed: 3, Drain: time.Minute, Reloads: true,
	}, &b)
	return v, b.String(), err
}

func TestAWholeRunAgainstAProductThatKeepsThePromise(t *testing.T) {
	t.Parallel()
	v, out, err := fakeRun(t, 2, "")
	if err != nil || !v.held() {
		t.Errorf("got %+v, %v\n%s", v, err, out)
	}
	if v.Unknown == 0 || v.Reloads == 0 {
		t.Errorf("no kill found a call in flight, or nothing was reloaded, so that the run showed little: %+v", v)
	}
}

func TestAWholeRunAgainstAProductThatBreaksThePromise(t *testing.T) {
	for fault, count := range map[string]func(*verdict) int{
		"no intent":    func(v *verdict) int { return v.Unrecorded },
		"lost":         func(v *verdict) int { return v.WrongStatus }, // the intent stands: unknown, although answered
		"late":         func(v *verdict) int { return v.Missing + v.WrongStatus },
		"twice":        func(v *verdict) int { return v.Duplicates },
		"wrong status": func(v *verdict) int { return v.WrongStatus },

		lostInReload: func(v *verdict) int { return v.WrongStatus * v.Missing },
		"no reload":  func(v *verdict) int { return v.WrongReloads },
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			v, out, err := fakeRun(t, 1, fault)
			if err != nil || count(v) == 0 || v.held() {
				t.Errorf("was not noticed: %+v, %v\n%s", v, err, out)
			}
		})
	}
}
