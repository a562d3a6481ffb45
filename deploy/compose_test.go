package deploy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

type composeFile struct {
	Services map[string]struct {
		Image       string
		Entrypoint  []string
		Command     []string
		Environment map[string]string
		Volumes     []string
		Ports       []string
		Networks    []string
		StopGrace   string `yaml:"stop_grace_period"`
	}
	Networks, Volumes map[string]any
}

func compose(t *testing.T) composeFile {
	t.Helper()
	var c composeFile
	if err := yaml.Unmarshal([]byte(read(t, "compose/compose.yaml")), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestComposeRunsTheFleetsCaddyfileWithItsVariables(t *testing.T) {
	c := compose(t)
	audit := c.Services["audit"]
	if !slices.Contains(audit.Volumes, "../fleet/Caddyfile:/etc/caddy/Caddyfile:ro") {
		t.Errorf("audit mounts %v", audit.Volumes)
	}
	caddyfile := read(t, "fleet/Caddyfile")
	for name := range audit.Environment {
		checkVariable(t, "compose.yaml", name, caddyfile)
	}
	api := c.Services["api"]
	checkCommand(t, "compose.yaml: api", api.Command)
	if !slices.Equal(api.Entrypoint, []string{"/usr/bin/caddy"}) {
		t.Errorf("api runs %v", api.Entrypoint)
	}
	if stop := duration(t, audit.StopGrace); stop < duration(t, audit.Environment["GRACE_PERIOD"])+20e9 {
		t.Errorf("it is killed after %s", stop)
	}
}

// A call that gets around the audit log is not recorded, so the API has no port and no
// network but the one that it shares with "audit".
func TestInComposeOnlyTheAuditLogReachesTheAPI(t *testing.T) {
	c := compose(t)
	if api := c.Services["api"]; len(api.Ports) > 0 || !slices.Equal(api.Networks, []string{"api"}) {
		t.Errorf("the API is reached by %v and %v", api.Ports, api.Networks)
	}
	for name, s := range c.Services {
		if slices.Contains(s.Networks, "api") && name != "api" && name != "audit" {
			t.Errorf("%s is on the API's network", name)
		}
		for _, n := range s.Networks {
			if _, ok := c.Networks[n]; !ok {
				t.Errorf("%s is on a network %s, which is not there", name, n)
			}
		}
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("%s is published beyond this host: %s", name, p)
			}
		}
	}
}

func TestWhatComposeMountsIsThere(t *testing.T) {
	c := compose(t)
	for name, s := range c.Services {
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			if !strings.HasPrefix(source, ".") {
				if _, ok := c.Volumes[source]; !ok {
					t.Errorf("%s: there is no volume %s", name, source)
				}
				continue
			}
			if _, err := os.Stat(filepath.Join("compose", source)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	var prometheus struct {
		RuleFiles     []string `yaml:"rule_files"`
		ScrapeConfigs []struct {
			JobName       string                       `yaml:"job_name"`
			StaticConfigs []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "compose/prometheus.yml")), &prometheus); err != nil {
		t.Fatal(err)
	}
	if target := prometheus.ScrapeConfigs[0].StaticConfigs[0].Targets[0]; target != "audit:9180" {
		t.Errorf("Prometheus scrapes %s", target)
	}
	// The alerts about targets go by the name of their job.
	inCluster := read(t, "kubernetes/prometheus.yaml")
	if job := prometheus.ScrapeConfigs[0].JobName; job != "caddy-audit-log" || !strings.Contains(inCluster, "job_name: caddy-audit-log ") {
		t.Errorf("the job is called %s", job)
	}
	if rules := "../prometheus/rules.yml:" + prometheus.RuleFiles[0] + ":ro"; !slices.Contains(c.Services["prometheus"].Volumes, rules) {
		t.Errorf("Prometheus reads %s, and mounts %v", prometheus.RuleFiles, c.Services["prometheus"].Volumes)
	}
}
