package caddymodule

import (
	"bytes"
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
	p := &place{address: "unix/" + r.dir + "/admin.sock"}
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := drained(ctx, p, true, time.Millisecond, &out); err == nil || !strings.Contains(err.Error(), "1 are open") {
		t.Errorf("with a call under way: %v", err)
	}
	// Without --quiet it says that the stores have everything, and the call's entry is still to come.
	if err := drained(t.Context(), p, true, 0, &out); err != nil {
		t.Error(err)
	}
	close(release)
	<-answered
	if err := drained(t.Context(), p, true, time.Millisecond, &out); err != nil {
		t.Error(err)
	}
	if s := r.status(); s.Calls.Recorded != 1 || s.Stores[0].Pending != 0 {
		t.Errorf("%d calls are recorded, %d entries wait: %s", s.Calls.Recorded, s.Stores[0].Pending, out.String())
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
	var out bytes.Buffer
	within, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	if err := drained(within, &place{address: "unix/" + r.dir + "/admin.sock"}, true, 300*time.Millisecond, &out); err != nil {
		t.Error(err)
	}
	cancel()
	<-probing
}
