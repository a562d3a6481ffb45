//go:build servers

package prometheus

import (
	"os/exec"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/internal/promtest"
)

// promtool is Prometheus' own judgement. That rules, metrics, runbook and dashboard agree is
// tested in caddymodule.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	p, err := promtest.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), p.Promtool, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %q: %v\n%s", args, err, out)
	}
}

func TestTheRulesAreValid(t *testing.T) { promtool(t, "check", "rules", "--lint-fatal", "rules.yml") }

func TestEachAlertFiresAndStaysSilentAsItsCasesSay(t *testing.T) {
	promtool(t, "test", "rules", "rules_test.yml")
}
