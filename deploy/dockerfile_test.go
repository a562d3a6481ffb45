package deploy

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// instruction is one of a Dockerfile's, with its flags and the rest.
type instruction struct {
	name  string
	flags map[string]string
	rest  string
}

// list is the rest in its JSON form, or nil.
func (i instruction) list() (words []string) {
	_ = json.Unmarshal([]byte(i.rest), &words)
	return words
}

// stages are the instructions of the Dockerfile, one list for each FROM. The first has
// those before.
func stages(t *testing.T) [][]instruction {
	t.Helper()
	all := [][]instruction{nil}
	for line := range strings.Lines(read(t, "docker/Dockerfile")) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, rest, _ := strings.Cut(line, " ")
		i := instruction{name: name, flags: map[string]string{}}
		for strings.HasPrefix(rest, "--") {
			var flag string
			flag, rest, _ = strings.Cut(rest, " ")
			key, value, _ := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
			i.flags[key] = value
		}
		if name == "HEALTHCHECK" {
			rest = strings.TrimPrefix(rest, "CMD ")
		}
		i.rest = rest
		if name == "FROM" {
			all = append(all, nil)
		}
		all[len(all)-1] = append(all[len(all)-1], i)
	}
	if len(all) != 3 {
		t.Fatalf("it has %d stages", len(all)-1)
	}
	return all
}

func find(t *testing.T, stage []instruction, name string) instruction {
	t.Helper()
	i := slices.IndexFunc(stage, func(i instruction) bool { return i.name == name })
	if i < 0 {
		t.Fatalf("it has no %s", name)
	}
	return stage[i]
}

// imageEnvironment are the image's own variables.
func imageEnvironment(t *testing.T) (env []string) {
	for _, i := range stages(t)[2] {
		if i.name == "ENV" {
			env = append(env, i.rest)
		}
	}
	return env
}

func TestTheImageRunsCommandsOfTheProgramAsAUserWithoutAName(t *testing.T) {
	last := stages(t)[2]
	if from := find(t, last, "FROM"); from.rest != "scratch" {
		t.Errorf("it is made from %s", from.rest)
	}
	if entry := find(t, last, "ENTRYPOINT").list(); !slices.Equal(entry, []string{"/usr/bin/caddy"}) {
		t.Errorf("it runs %v", entry)
	}
	checkCommand(t, "Dockerfile: CMD", find(t, last, "CMD").list())
	health := find(t, last, "HEALTHCHECK").list()
	if len(health) == 0 || health[0] != "/usr/bin/caddy" {
		t.Fatalf("HEALTHCHECK needs a shell: %v", health)
	}
	checkCommand(t, "Dockerfile: HEALTHCHECK", health[1:])
	if user := find(t, last, "USER").rest; !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(user) {
		t.Errorf("its user is %s", user)
	}
	for _, i := range last {
		if i.name == "RUN" {
			t.Errorf("the image has no shell for RUN %s", i.rest)
		}
	}
	for _, v := range imageEnvironment(t) {
		name, _, _ := strings.Cut(v, "=")
		checkVariable(t, "Dockerfile", name, read(t, "../Caddyfile"))
	}
	if v := find(t, last, "VOLUME").rest; !slices.Contains(imageEnvironment(t), "AUDIT_DIR="+v) {
		t.Errorf("the volume is %s, and the entries are elsewhere", v)
	}
	if exposed := find(t, last, "EXPOSE").rest; exposed != "8080 8081 9180" {
		t.Errorf("it exposes %s", exposed)
	}
}
