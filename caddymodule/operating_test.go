package caddymodule

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Where what an operator watches is kept, relative to this package.
const (
	rulesPath      = "../deploy/prometheus/rules.yml"
	rulesTestsPath = "../deploy/prometheus/rules_test.yml"
	dashboardPath  = "../deploy/grafana/dashboard.json"
	runbookPath    = "../docs/runbook.md"
)

// alert is a rule.
type alert struct {
	Alert       string            `yaml:"alert"`
	Record      string            `yaml:"record"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func readAlerts(t *testing.T) (all []alert) {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []alert `yaml:"rules"`
		} `yaml:"groups"`
	}
	readYAML(t, rulesPath, &file)
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatalf("%s has no rules", rulesPath)
	}
	return all
}

func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(readFile(t, path)), into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var nameOfMetric = regexp.MustCompile(`\bcaddy_audit_[a-z0-9_]+`)

// seriesOf are the names of series that a metric has.
func seriesOf(m metric) []string {
	if m.kind == "histogram" {
		return []string{m.name, m.name + "_bucket", m.name + "_count", m.name + "_sum"}
	}
	return []string{m.name}
}

// metricsIn are the metrics that a text names, sorted. Names that no metric has are
// among them as they are.
func metricsIn(all map[string]metric, text string) []string {
	names := map[string]string{}
	for _, m := range all {
		for _, s := range seriesOf(m) {
			names[s] = m.name
		}
	}
	found := map[string]bool{}
	for _, name := range nameOfMetric.FindAllString(text, -1) {
		if m, ok := names[name]; ok {
			name = m
		}
		found[name] = true
	}
	return slices.Sorted(maps.Keys(found))
}

func TestEveryAlertSaysWhatToDo(t *testing.T) {
	runbook := sections(t)
	seen := map[string]bool{}
	for _, a := range readAlerts(t) {
		if a.Alert == "" {
			t.Errorf("the rule %q is no alert: say here what recording rules are for", a.Record)
			continue
		}
		if seen[a.Alert] {
			t.Errorf("%s is there twice", a.Alert)
		}
		seen[a.Alert] = true
		if !slices.Contains([]string{"critical", "warning", "info"}, a.Labels["severity"]) {
			t.Errorf("%s has the severity %q", a.Alert, a.Labels["severity"])
		}
		if a.For == "" {
			t.Errorf("%s does not say for how long: for: 0m is at once", a.Alert)
		}
		for _, text := range []string{"summary", "description"} {
			if len(a.Annotations[text]) < 20 {
				t.Errorf("%s has no %s: %q", a.Alert, text, a.Annotations[text])
			}
		}
		path, anchor, _ := strings.Cut(a.Annotations["runbook_url"], "#")
		if path != "docs/runbook.md" {
			t.Errorf("%s leads to %q: a path in the repository is right wherever it is read", a.Alert, path)
		}
		if section, ok := runbook[anchor]; !ok {
			t.Errorf("%s leads to the section %q, which the runbook does not have", a.Alert, anchor)
		} else if !slices.Contains(section.alerts, a.Alert) {
			t.Errorf("%s leads to the section %q, whose first line does not name it", a.Alert, section.title)
		}
	}
}

// section is a part of the runbook.
type section struct {
	title, text string
	// alerts are those that its first line names.
	alerts []string
}

var (
	alertsLine = regexp.MustCompile(`(?m)\A\s*Alerts?: (.*)$`)
	alertName  = regexp.MustCompile("`(Audit[A-Za-z]+)`")
	linkWithin = regexp.MustCompile(`\]\(#([^)]*)\)`)
	notOfSlugs = regexp.MustCompile(`[^a-z0-9 -]`)
)

// sections are the runbook's, by their anchors.
func sections(t *testing.T) map[string]section {
	t.Helper()
	found := map[string]section{}
	for _, part := range strings.Split("\n"+readFile(t, runbookPath), "\n## ")[1:] {
		title, text, _ := strings.Cut(part, "\n")
		s := section{title: title, text: text}
		if line := alertsLine.FindStringSubmatch(text); line != nil {
			for _, name := range alertName.FindAllStringSubmatch(line[1], -1) {
				s.alerts = append(s.alerts, name[1])
			}
		}
		found[strings.ReplaceAll(notOfSlugs.ReplaceAllString(strings.ToLower(title), ""), " ", "-")] = s
	}
	return found
}

func TestTheRunbookNamesNoOtherAlerts(t *testing.T) {
	leads := map[string]string{}
	for _, a := range readAlerts(t) {
		_, leads[a.Alert], _ = strings.Cut(a.Annotations["runbook_url"], "#")
	}
	all := sections(t)
	for anchor, s := range all {
		for _, name := range s.alerts {
			if leads[name] != anchor {
				t.Errorf("the section %q is for the alert %s, which leads to %q", s.title, name, leads[name])
			}
		}
		for _, name := range alertName.FindAllStringSubmatch(s.text, -1) {
			if _, ok := leads[name[1]]; !ok {
				t.Errorf("the section %q names the alert %s, which is not there", s.title, name[1])
			}
		}
		for _, link := range linkWithin.FindAllStringSubmatch(s.text, -1) {
			if _, ok := all[link[1]]; !ok {
				t.Errorf("the section %q leads to %q, which is not there", s.title, link[1])
			}
		}
	}
}

func TestEveryMetricThatIsNamedIsThere(t *testing.T) {
	all := allMetrics(t)
	docs := []string{rulesPath, rulesTestsPath, dashboardPath, "../README.md"}
	entries, err := os.ReadDir("../docs")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".md") {
			docs = append(docs, "../docs/"+e.Name())
		}
	}
	for _, path := range docs {
		for _, name := range metricsIn(all, readFile(t, path)) {
			if _, ok := all[name]; !ok && !strings.HasSuffix(name, "_") { // as in caddy_audit_calls_*
				t.Errorf("%s names %s, which is no metric", path, name)
			}
		}
	}
}

// dashboard is what is looked at of Grafana's.
type dashboard struct {
	Panels     []panel `json:"panels"`
	Templating struct {
		List []struct {
			Name  string `json:"name"`
			Type  string `json:"type"`
			Query any    `json:"query"`
		} `json:"list"`
	} `json:"templating"`
}

type panel struct {
	Title       string                         `json:"title"`
	Type        string                         `json:"type"`
	Description string                         `json:"description"`
	GridPos     struct{ X, Y, W, H int }       `json:"gridPos"`
	Datasource  struct{ Type, UID string }     `json:"datasource"`
	Targets     []struct{ Expr, RefID string } `json:"targets"`
}

// selector is of series, with what stands in its braces.
var selector = regexp.MustCompile(`\b(caddy_audit_[a-z0-9_]+|up)\b(\{[^}]*\})?`)

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal([]byte(readFile(t, dashboardPath)), &d); err != nil {
		t.Fatalf("%s: %v", dashboardPath, err)
	}
	return d
}

func TestTheDashboardCanBeUsedAnywhere(t *testing.T) {
	d := readDashboard(t)
	variables := map[string]string{}
	for _, v := range d.Templating.List {
		variables[v.Name] = v.Type
	}
	if variables["datasource"] != "datasource" || variables["instance"] != "query" {
		t.Errorf("its variables are %v, want a datasource and an instance", variables)
	}
	core := []string{"row", "stat", "timeseries", "state-timeline", "bargauge", "table", "heatmap", "text"}
	rows, places := 0, map[[2]int]string{}
	for _, p := range d.Panels {
		if !slices.Contains(core, p.Type) {
			t.Errorf("the panel %q is a %s, which Grafana does not come with", p.Title, p.Type)
		}
		if p.Type == "row" {
			rows++
			continue
		}
		if len(p.Description) < 20 {
			t.Errorf("the panel %q does not say what it is about: %q", p.Title, p.Description)
		}
		if p.Datasource.UID != "${datasource}" {
			t.Errorf("the panel %q asks the data source %q", p.Title, p.Datasource.UID)
		}
		if len(p.Targets) == 0 {
			t.Errorf("the panel %q asks nothing", p.Title)
		}
		for _, q := range p.Targets {
			for _, s := range selector.FindAllStringSubmatch(q.Expr, -1) {
				if !strings.Contains(s[2], `instance=~"$instance"`) {
					t.Errorf("the panel %q asks %s of all instances", p.Title, s[0])
				}
			}
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other := places[at]; other != "" {
					t.Fatalf("the panels %q and %q overlap", other, p.Title)
				}
				places[at] = p.Title
				if at[0] >= 24 {
					t.Errorf("the panel %q stands beyond the right edge", p.Title)
				}
			}
		}
	}
	if rows != 4 {
		t.Errorf("it has %d rows, want four", rows)
	}
}

func TestEveryMetricIsWatchedOrSaysWhyNot(t *testing.T) {
	all := allMetrics(t)
	watched := map[string]bool{}
	for _, a := range readAlerts(t) {
		for _, name := range metricsIn(all, a.Expr) {
			watched[name] = true
		}
	}
	for _, p := range readDashboard(t).Panels {
		for _, q := range p.Targets {
			for _, name := range metricsIn(all, q.Expr) {
				watched[name] = true
			}
		}
	}
	for name := range all {
		switch why, excused := unwatched[name]; {
		case excused && watched[name]:
			t.Errorf("%s is watched, so that it needs no excuse", name)
		case excused && why == "":
			t.Errorf("%s needs a reason why nothing looks at it", name)
		case !excused && !watched[name]:
			t.Errorf("%s: no alert and no panel looks at it; say why in unwatched, or leave it out", name)
		}
	}
	for name := range unwatched {
		if _, ok := all[name]; !ok {
			t.Errorf("%s is no metric", name)
		}
	}
}

// promtool runs the cases; that each alert has one that fires and one that stays silent
// can be seen without it.
func TestEveryAlertHasACaseThatFiresAndOneThatDoesNot(t *testing.T) {
	var file struct {
		Tests []struct {
			Name string `yaml:"name"`
		} `yaml:"tests"`
	}
	readYAML(t, rulesTestsPath, &file)
	cases := map[string]bool{}
	for _, c := range file.Tests {
		name, what, _ := strings.Cut(c.Name, " ")
		word, _, _ := strings.Cut(what, " ")
		cases[name+" "+strings.TrimRight(word, ":,")] = true
	}
	for _, a := range readAlerts(t) {
		for _, what := range []string{"fires", "stays"} {
			if !cases[a.Alert+" "+what] {
				t.Errorf("%s has no case in which it %s", a.Alert, what)
			}
		}
	}
}
