package caddymodule

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// metric is one of ours, as its descriptor has it.
type metric struct {
	name, kind, help string
	labels           []string
}

var descriptor = regexp.MustCompile(`^Desc\{fqName: ("(?:[^"\\]|\\.)*"), help: ("(?:[^"\\]|\\.)*"), unit: "", constLabels: \{\}, variableLabels: \{([a-z_,]*)\}`)

func metricOf(t *testing.T, d *prometheus.Desc, kind string) metric {
	t.Helper()
	parts := descriptor.FindStringSubmatch(d.String())
	if parts == nil {
		t.Fatalf("a descriptor has another form than this test knows: %s", d)
	}
	m := metric{kind: kind, labels: strings.FieldsFunc(parts[3], func(r rune) bool { return r == ',' })}
	for i, text := range []*string{&m.name, &m.help} {
		var err error
		if *text, err = strconv.Unquote(parts[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// allMetrics are those that registerMetrics registers, by name.
func allMetrics(t *testing.T) map[string]metric {
	t.Helper()
	all := map[string]metric{}
	add := func(m metric) {
		if _, twice := all[m.name]; twice {
			t.Errorf("%s is there twice", m.name)
		}
		all[m.name] = m
	}
	for _, c := range collectors {
		kind := ""
		switch c := c.(type) {
		case terms:
			for _, f := range figures {
				if kind = "gauge"; f.kind == prometheus.CounterValue {
					kind = "counter"
				}
				add(metricOf(t, f.Desc, kind))
			}
			continue
		case *prometheus.CounterVec:
			kind = "counter"
		case *prometheus.GaugeVec, prometheus.Gauge:
			kind = "gauge"
		case *prometheus.HistogramVec, prometheus.Histogram:
			kind = "histogram"
		case prometheus.Counter:
			kind = "counter"
		default:
			t.Fatalf("this test does not know what kind %T is of", c)
		}
		described := make(chan *prometheus.Desc, 1)
		c.Describe(described)
		add(metricOf(t, <-described, kind))
	}
	return all
}

func gather(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	reg := prometheus.NewRegistry()
	if err := registerMetrics(reg); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]*dto.MetricFamily{}
	for _, f := range families {
		byName[f.GetName()] = f
	}
	return byName
}

// tablePath is relative to this package.
const tablePath = "../docs/metrics.md"

// The table's place in it.
const (
	tableBegins = "<!-- The table is written by: go test ./caddymodule -run TestTheTableOfMetricsIsThatOfTheProgram -update -->\n"
	tableEnds   = "<!-- The end of the table. -->\n"
)

// unwatched are metrics that neither an alert nor the dashboard looks at, and why.
var unwatched = map[string]string{}

func TestTheTableOfMetricsIsThatOfTheProgram(t *testing.T) {
	text, err := os.ReadFile(tablePath)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(text), tableBegins)
	_, after, ends := strings.Cut(rest, tableEnds)
	if !begins || !ends {
		t.Fatalf("%s has no place for the table: it stands between %q and %q", tablePath, tableBegins, tableEnds)
	}
	want := before + tableBegins + metricsTable(t) + tableEnds + after
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatalf("%s is behind the program: run go test ./caddymodule -run TestTheTableOfMetricsIsThatOfTheProgram -update", tablePath)
	}
	if err := os.WriteFile(tablePath, []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
}

func metricsTable(t *testing.T) string {
	all := allMetrics(t)
	watching := map[string][]string{}
	for _, a := range readAlerts(t) {
		for _, name := range metricsIn(all, a.Expr) {
			watching[name] = append(watching[name], "`"+a.Alert+"`")
		}
	}
	var b strings.Builder
	b.WriteString("\n| metric | type | labels | what it says | alerts |\n|---|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		m := all[name]
		labels, alerts := "–", "—"
		if len(m.labels) > 0 {
			labels = "`" + strings.Join(m.labels, "`, `") + "`"
		}
		if a := watching[name]; len(a) > 0 {
			alerts = strings.Join(a, ", ")
		}
		help := m.help
		if why := unwatched[name]; why != "" {
			help += " Nothing looks at it: " + why
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", name, m.kind, labels, strings.ReplaceAll(help, "|", `\|`), alerts)
	}
	b.WriteString("\n")
	return b.String()
}

// Labels whose values the configuration or this program chooses, and no caller.
var labelsOfOurs = []string{"cause", "class", "end", "kind", "phase", "reason", "result", "route", "store", "term"}

func TestNoMetricHasALabelThatACallerChooses(t *testing.T) {
	for name, m := range allMetrics(t) {
		for _, l := range m.labels {
			if !slices.Contains(labelsOfOurs, l) {
				t.Errorf("%s has the label %s: who calls, from where and what for is in the entries, and would make a series for each caller", name, l)
			}
		}
	}
}

func TestNothingThatACallerSendsIsInAMetric(t *testing.T) {
	const marker = "planted"
	r := start(t, proxy, ok)
	for _, path := range []string{"/v1/projects/" + marker, "/v1/organizations/" + marker + "/members", "/" + marker + "?q=" + marker} {
		r.send("POST", path, map[string]string{
			"Authorization": "Bearer " + marker, "User-Agent": marker, "X-Forwarded-For": "203.0.113.77", "X-Request-Id": marker,
		}, `{"name":"`+marker+`"}`)
	}
	r.drained()
	seen := gather(t)
	if seen["caddy_audit_calls_seen_total"].GetMetric()[0].GetCounter().GetValue() < 3 {
		t.Fatal("the calls were not counted, so that nothing is shown")
	}
	for name, f := range seen {
		if text := f.String(); strings.Contains(text, marker) || strings.Contains(text, "203.0.113.77") {
			t.Errorf("%s: %s", name, text)
		}
	}
}

func TestWhatIsGatheredIsWhatTheTableSays(t *testing.T) {
	r := start(t, proxy, ok)
	r.send("POST", project+"/pause", nil, "{}")
	r.drained()
	all := allMetrics(t)
	for name, f := range gather(t) {
		m, known := all[name]
		if !known {
			t.Errorf("%s is gathered, and not described", name)
			continue
		}
		if kind := strings.ToLower(f.GetType().String()); kind != m.kind {
			t.Errorf("%s is a %s, and the table says %s", name, kind, m.kind)
		}
		if f.GetHelp() != m.help {
			t.Errorf("%s: %q, and the table says %q", name, f.GetHelp(), m.help)
		}
	}
}
