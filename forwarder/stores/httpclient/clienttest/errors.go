package clienttest

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// IsRefused reports whether an error of Write refuses what is in the batch.
func IsRefused(err error) bool {
	_, refused := errors.AsType[*forwarder.RefusedError](err)
	return refused
}

// Asked is for how long the receiver wants to be left alone, negative if an error cannot
// say it.
func Asked(err error) time.Duration {
	var a interface{ RetryAfter() time.Duration }
	if errors.As(err, &a) {
		return a.RetryAfter()
	}
	return -1
}

// Mentions checks that an error says all of that.
func Mentions(t testing.TB, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not mention %q: %v", part, err)
		}
	}
}

// SurvivesJSON checks that a module is what is wanted, also once it was written as JSON and
// read into an empty one.
func SurvivesJSON[M any](t testing.TB, want, got, empty M, options ...cmp.Option) {
	t.Helper()
	if diff := cmp.Diff(want, got, options...); diff != "" {
		t.Errorf("module (-want +got):\n%s", diff)
	}
	b, err := json.Marshal(got)
	if err == nil {
		err = json.Unmarshal(b, empty)
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, empty, options...); diff != "" {
		t.Errorf("after JSON (-want +got):\n%s", diff)
	}
}
