package caddymodule

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestAQuietDrainWaitsForTheCallsUnderWay(t *testing.T) {
	reached, release := make(chan struct{}), make(chan struct{})
	r := start(t, proxy, func(w http.ResponseWriter, _ *http.Request) {
		close(reached)
		<-release
		w.WriteHeader(http.StatusNoContent)
	})
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		resp, err := oneCall.RoundTrip(r.request("POST", project, nil, ""))
		if err != nil {
			t.Error(err)
			return
		}
		resp.Body.Close()
	}()
	<-reached
	if _, err := r.run("drain", "--wait", "--quiet", "1ms", "--timeout", "500ms"); err == nil || !strings.Contains(err.Error(), "1 are open") {
		t.Errorf("with a call under way: %v", err)
	}
	// Without --quiet it says that the stores have everything, and the call's entry is still to come.
	if _, err := r.run("drain", "--wait"); err != nil {
		t.Error(err)
	}
	close(release)
	<-answered
	out, err := r.run("drain", "--wait", "--quiet", "1ms")
	if err != nil {
		t.Error(err)
	}
	if s := r.status(); s.Calls.Recorded != 1 || s.Stores[0].Pending != 0 {
		t.Errorf("%d calls are recorded, %d entries wait: %s", s.Calls.Recorded, s.Stores[0].Pending, out)
	}
}

func TestADrainIsNotKeptFromBeingQuietByProbes(t *testing.T) {
	r := newRig(t, ok)
	r.load(strings.Replace(rigCaddyfile, "platform supabase", "@probes path /health\n rule @probes none", 1), proxy)
	ctx, cancel := context.WithCancel(t.Context())
	probing := make(chan struct{})
	go func() {
		defer close(probing)
		for ctx.Err() == nil {
			if resp, err := oneCall.RoundTrip(r.request("GET", "/health", nil, "")); err == nil {
				resp.Body.Close()
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	if _, err := r.run("drain", "--wait", "--quiet", "300ms", "--timeout", "1m"); err != nil {
		t.Error(err)
	}
	cancel()
	<-probing
}
