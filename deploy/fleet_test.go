package deploy

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/internal/pgtest"
)

// stub is an API that answers everything, and its address.
func stub(t *testing.T) string {
	t.Helper()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }))
	t.Cleanup(api.Close)
	return strings.TrimPrefix(api.URL, "http://")
}

// short is a directory whose path has room for a socket.
func short(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fleet")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// A fleet, from its start over a database that is away to the adoption of the volume of an
// instance that does not come back.
func TestAFleetDeliversToPostgreSQLAndAdoptsWhatAnInstanceLeft(t *testing.T) {
	server := pgtest.Run(t, nil)
	caddyfile, err := filepath.Abs("fleet/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	program, api := caddy(t), stub(t)
	run := []string{"run", "--config", caddyfile, "--adapter", "caddyfile"}
	instances := make([]*instance, 2)
	for n := range instances {
		instances[n] = &instance{t: t}
		dir := short(t)
		instances[n].environment(dir, "PLATFORM_API="+api, "AUDIT_DSN="+server.DSN(nil), "GRACE_PERIOD=5s")
		if _, err := output(t.Context(), program, instances[n].env, "validate", "--config", caddyfile, "--adapter", "caddyfile"); err != nil {
			t.Fatal(err)
		}
		instances[n].start(exec.Command(program, run...))
	}
	drain := []string{"audit", "drain", "--wait", "--timeout", "60s", "--config", caddyfile}
	for _, i := range instances {
		for range 3 {
			if status := call(t, "POST", "http://"+i.calls+"/v1/projects"); status != http.StatusOK {
				t.Errorf("a call got %d: %s", status, i.out)
			}
		}
		if status := call(t, "GET", "http://"+i.metrics+"/healthz"); status != http.StatusOK {
			t.Errorf("a probe got %d", status)
		}
		if _, err := output(t.Context(), program, i.env, append(drain, "--quiet", "100ms")...); err != nil {
			t.Error(err)
		}
	}

	// The database is away: calls go on, and the hook of a stop says that something is left.
	if err := server.Down(); err != nil {
		t.Fatal(err)
	}
	leaving, staying := instances[0], instances[1]
	if status := call(t, "POST", "http://"+leaving.calls+"/v1/projects"); status != http.StatusOK {
		t.Errorf("without its database a call got %d: %s", status, leaving.out)
	}
	if _, err := output(t.Context(), program, leaving.env, "audit", "drain", "--config", caddyfile); !exitedWith(err, 1) {
		t.Errorf("draining without a database: %v", err)
	}
	begun := time.Now()
	if err := leaving.end(syscall.SIGTERM); err != nil {
		t.Errorf("its end: %v: %s", err, leaving.out)
	}
	t.Logf("an end without the database took %s", time.Since(begun).Round(time.Millisecond))
	if err := server.Up(); err != nil {
		t.Fatal(err)
	}

	// The other one delivers what its volume has, as the job of deploy/kubernetes/adopt does.
	old := filepath.Join(leaving.dir, "buffer")
	adopter := &instance{t: t}
	adopter.environment(short(t), "AUDIT_DSN="+server.DSN(nil))
	out, err := output(t.Context(), program, adopter.env, "audit", "deliver", old, "--config", caddyfile, "--adapter", "caddyfile")
	if err != nil || !strings.Contains(out, "everything is delivered") {
		t.Errorf("adopting: %v: %s", err, out)
	}
	if _, err := output(t.Context(), program, staying.env, drain...); err != nil {
		t.Error(err)
	}
	out, err = output(t.Context(), program, staying.env, "audit", "export", "--config", caddyfile)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out, `"method":"POST"`); n != 7 {
		t.Errorf("%d of 7 calls are in the database", n)
	}
	if out, err = output(t.Context(), program, staying.env, "audit", "verify", "--config", caddyfile); err != nil {
		t.Errorf("verifying: %v: %s", err, out)
	}
	if err := staying.end(syscall.SIGTERM); err != nil {
		t.Errorf("its end: %v: %s", err, staying.out)
	}
}

func TestTheFleetsCaddyfileIsFormattedAndNamesVariablesOfTheShippedOne(t *testing.T) {
	if out, err := output(t.Context(), caddy(t), []string{"HOME=" + t.TempDir()}, "fmt", "--diff", mustAbs(t, "fleet/Caddyfile")); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	shipped := variables(read(t, "../Caddyfile"))
	own := map[string]bool{"AUDIT_DSN": true, "AUDIT_MIGRATE": true, "AUDIT_MAX_SIZE": true, "GRACE_PERIOD": true}
	for _, name := range variables(read(t, "fleet/Caddyfile")) {
		if !own[name] && !slices.Contains(shipped, name) {
			t.Errorf("%s is in the fleet's Caddyfile alone", name)
		}
	}
}

func mustAbs(t *testing.T, name string) string {
	t.Helper()
	abs, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}
