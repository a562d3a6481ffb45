package commands_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/catalogs/catalogstest"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
)

func TestCallsThatNoSiteRecordsAreFound(t *testing.T) {
	r, _ := newPatient(t, "http://:18080", "http://:18081 {\n\treverse_proxy 127.0.0.1:9\n}\nhttp://:18080").examined()
	r.want(t, "routes", doctor.StateWarning, "no audit_log covers")
	r, _ = newPatient(t, "platform supabase", "platform generic").examined()
	r.want(t, "routes", doctor.StateWarning, "knows no API")
	dir := t.TempDir()
	api := write(t, filepath.Join(dir, "api.yaml"), catalogstest.API+"  /ping: {get: {operationId: ping}}\n")
	r, _ = newPatient(t, "platform supabase", "platform supabase\n\t\tcatalog openapi "+api).examined()
	r.want(t, "routes", doctor.StateWarning, "1 of its own operations have no target, such as GET /v1/ping")
	r, _ = newPatient(t).examined()
	r.want(t, "routes", doctor.StateOK, "operations of its API")
}

func TestPoliciesThatLetCallsThroughUnrecordedAreFound(t *testing.T) {
	for rule, c := range map[string]struct {
		state doctor.State
		has   string
	}{
		"rule * none":                                             {doctor.StateWrong, "matches every call"},
		"rule * metadata relaxed":                                 {doctor.StateWarning, "is relaxed for calls that change something"},
		"rule /v1/* metadata answer":                              {doctor.StateWarning, "is answer for calls that change something"},
		"@w method GET POST\n rule @w metadata relaxed":           {doctor.StateWarning, "rule @w is relaxed"},
		"@r method GET HEAD\n rule @r metadata relaxed":           {doctor.StateOK, "changing calls are recorded before"},
		"@p path /health\n rule @p none\n rule * metadata strict": {doctor.StateOK, "changing calls are recorded before"},
	} {
		r, _ := newPatient(t, "%SITE%", rule).examined()
		r.want(t, "policy", c.state, c.has)
	}
	r, _ := newPatient(t, "segment_size 1MiB", "on_fault pass").examined()
	r.want(t, "policy", doctor.StateWarning, "go through unrecorded")
}

func TestStoresThatGrowForEverAreFound(t *testing.T) {
	r, err := newPatient(t, "keep {\n\t\t\tdefault 400d\n\t\t}", "").examined()
	r.want(t, "retention", doctor.StateWarning, "nothing is ever deleted")
	if exitCodeOf(err) != 0 {
		t.Error(err)
	}
	r, _ = newPatient(t, "%GLOBAL%", "store file %DIR%/audit/audit.ndjson").examined()
	r.want(t, "retention", doctor.StateOK, "file delete by means of their own")
	p := newPatient(t)
	report := lookAt(t, p.file, "retention", nil, &operator.Status{Stores: []operator.StatusStore{{Name: "postgres", Retention: &forwarder.KeepingStatus{FailingSince: time.Now(), LastError: "permission denied"}}}})
	report.want(t, "retention", doctor.StateWarning, "store postgres is not held to its retention: permission denied")
}
