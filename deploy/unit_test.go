package deploy

import (
	"slices"
	"strings"
	"testing"
	"time"
)

const unitFile = "systemd/caddy-audit.service"

// directives are those of the unit, by section and name; a name can be there more than once.
func directives(t *testing.T, file string) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	section := ""
	for line := range strings.Lines(read(t, file)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]")
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			t.Fatalf("%s: %q is no directive", file, line)
		}
		key := section + "." + name
		all[key] = append(all[key], value)
	}
	return all
}

func only(t *testing.T, d map[string][]string, name string) string {
	t.Helper()
	if len(d[name]) != 1 {
		t.Fatalf("%s is there %d times", name, len(d[name]))
	}
	return d[name][0]
}

func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(strings.Replace(text, "min", "m", 1))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// unitEnvironment is what the unit itself sets.
func unitEnvironment(d map[string][]string) (env []string) {
	for _, line := range d["Service.Environment"] {
		env = append(env, strings.Fields(line)...)
	}
	return env
}

func TestTheUnitRunsCommandsOfTheProgram(t *testing.T) {
	d := directives(t, unitFile)
	for _, name := range []string{"Service.ExecStart", "Service.ExecReload"} {
		words := strings.Fields(only(t, d, name))
		if words[0] != "/usr/local/bin/caddy" {
			t.Errorf("%s runs %s", name, words[0])
		}
		checkCommand(t, name, words[1:])
	}
	both := read(t, "../Caddyfile") + read(t, "fleet/Caddyfile")
	for _, v := range unitEnvironment(d) {
		name, _, _ := strings.Cut(v, "=")
		checkVariable(t, unitFile, name, both)
	}
	for line := range strings.Lines(read(t, "systemd/environment")) {
		line = strings.TrimSpace(strings.TrimPrefix(line, "# "))
		if name, _, ok := strings.Cut(line, "="); ok && !strings.Contains(name, " ") {
			checkVariable(t, "systemd/environment", name, both)
		}
	}
}

func TestTheUnitsReloadAsksTheSocketThatTheUnitMakes(t *testing.T) {
	d := directives(t, unitFile)
	i := slices.IndexFunc(unitEnvironment(d), func(v string) bool { return strings.HasPrefix(v, "ADMIN_LISTEN=") })
	if i < 0 {
		t.Fatal("the unit does not say where the admin endpoint is")
	}
	socket, _, _ := strings.Cut(strings.TrimPrefix(unitEnvironment(d)[i], "ADMIN_LISTEN="), "|")
	if !strings.Contains(only(t, d, "Service.ExecReload"), "--address "+socket+" ") {
		t.Errorf("the server listens at %s, a reload asks %s", socket, only(t, d, "Service.ExecReload"))
	}
	if dir := "unix//run/" + only(t, d, "Service.RuntimeDirectory") + "/"; !strings.HasPrefix(socket, dir) {
		t.Errorf("the socket %s is not in the runtime directory %s", socket, dir)
	}
}

// A restart that is given up, or an end that is cut short, is an API that nobody reaches or
// calls of which nobody knows how they ended.
func TestTheUnitGivesTheShutdownItsTimeAndStartsAgainForEver(t *testing.T) {
	d := directives(t, unitFile)
	for name, want := range map[string]string{
		"Service.Type": "notify", "Service.Restart": "always", "Unit.StartLimitIntervalSec": "0",
		"Service.StateDirectoryMode": "0700", "Service.RuntimeDirectoryMode": "0700", "Service.User": "caddy-audit",
		"Service.CapabilityBoundingSet": "", "Service.AmbientCapabilities": "", "Service.NoNewPrivileges": "yes", "Service.ProtectSystem": "strict",
	} {
		if got := only(t, d, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	// Calls under way, the batch in hand, the buffer's last commit.
	if need := 60*time.Second + 2*10*time.Second; duration(t, only(t, d, "Service.TimeoutStopSec")) < need {
		t.Errorf("it is killed after %s, and may need %s", only(t, d, "Service.TimeoutStopSec"), need)
	}
	if !strings.HasPrefix(only(t, d, "Service.EnvironmentFile"), "-/") {
		t.Error("without an environment file it does not start")
	}
}
