package viewer

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestReadersThatCannotBeAnsweredAreToldOfOnce(t *testing.T) {
	var log bytes.Buffer
	r := newRig(t, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	r.write(entryOf("acme", time.Second))
	r.disk = errors.New("no space is left")
	for range 3 {
		for _, path := range []string{"", "/counts"} {
			if resp := r.get("operator", auditPath("acme")+path); resp.StatusCode != 503 {
				t.Error(resp.Status)
			}
		}
		if _, status := r.list("member:acme", auditPath("acme")); status != 200 { // no event
			t.Error(status)
		}
	}
	if n := strings.Count(log.String(), "answering readers of the audit log"); n != 2 {
		t.Errorf("%d lines for two routes:\n%s", n, log.String())
	}
	for _, want := range []string{"route=audit", "route=counts", "no space is left"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
}

func TestATroubleIsOverWhenNobodyHasFailedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all troubles
		store, gate := &unavailable{what: "a store"}, &unavailable{what: "a gate"}
		if !all.failed("page", store) || all.failed("page", store) || !all.failed("page", gate) || !all.failed("audit", gate) {
			t.Error("not the first of each reason and route is told")
		}
		if all.answered("page") != nil || all.answered("other") != nil {
			t.Error("it is over at once")
		}
		time.Sleep(troubleRest / 2)
		if all.failed("page", errors.New("at last")) != true {
			t.Error("another reason is not told")
		}
		time.Sleep(troubleRest / 2)
		if all.answered("page") != nil || all.answered("audit") == nil {
			t.Error("it is over by the first failure, or the other one is not")
		}
		time.Sleep(troubleRest)
		over := all.answered("page")
		if over == nil || over.failures != 4 || time.Since(over.since) != 2*troubleRest || all.answered("page") != nil {
			t.Errorf("%+v", over)
		}
		if !all.failed("page", store) {
			t.Error("the next one is not told")
		}
	})
}
