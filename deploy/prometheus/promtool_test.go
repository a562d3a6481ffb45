//go:build servers

// The alerts, held against Prometheus' own tool. That they, the
// metrics, the runbook and the dashboard agree is tested in caddymodule.

package prometheus

import (
	"os/exec"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/internal/promtest"
)

func promtool(t *testing.T, args ...string) {
	t.Helper()
	p, err := promtest.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), p.Promtool, args...).CombinedOutput(); err != nil { //nolint:gosec // a program of Debian's
		t.Errorf("promtool %q: %v\n%s", args, err, out)
	}
}

func TestTheRulesAreValid(t *testing.T) { promtool(t, "check", "rules", "--lint-fatal", "rules.yml") }

func TestEachAlertFiresAndStaysSilentAsItsCasesSay(t *testing.T) {
	promtool(t, "test", "rules", "rules_test.yml")
}
