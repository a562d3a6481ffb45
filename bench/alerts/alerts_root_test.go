//go:build linux && root && servers

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.InTempDir("alerts", m.Run)) }

// A trial that cannot fail shows nothing: rules that never fire, that fire without a cause, and that
// lose their target's labels must be noticed.
func TestRulesThatDoNotDoWhatTheyShouldAreNoticed(t *testing.T) {
	text, err := os.ReadFile("../../deploy/prometheus/rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	broken := string(text)
	for from, to := range map[string]string{
		`up{job="caddy-audit-log"} == 0`:                                            `up{job="caddy-audit-log"} == 2`,
		"expr: caddy_audit_buffer_failing == 1":                                     "expr: caddy_audit_buffer_failing == 0",
		"time() - max_over_time(caddy_audit_config_changed_timestamp_seconds[15m])": "time() - max(max_over_time(caddy_audit_config_changed_timestamp_seconds[15m]))",
	} {
		if strings.Count(broken, from) != 1 {
			t.Fatalf("the rules do not have %q once", from)
		}
		broken = strings.Replace(broken, from, to, 1)
	}
	rules := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(rules, []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	v, err := alerts(t.Context(), options{Only: "process", Rules: rules, Within: 20 * time.Second}, &out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"AuditDown did not fire", "AuditConfigChanged did not fire"} {
		if !slices.ContainsFunc(v.Failures, func(f string) bool { return strings.Contains(f, want) }) {
			t.Errorf("%q is not noticed: %q", want, v.Failures)
		}
	}
	if !slices.Contains(v.Unexpected, "AuditDiskFailing at process") {
		t.Errorf("an alert without a cause is not noticed: %q", v.Unexpected)
	}
	if v.Held {
		t.Errorf("it held: %s", out.String())
	}
}
