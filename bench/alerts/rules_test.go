//go:build linux

package main

import (
	"os"
	"strings"
	"testing"
)

func TestOnlyTimesAreRewritten(t *testing.T) {
	for expr, want := range map[string]string{
		"increase(a_total[5m]) > 0":                                   "increase(a_total[10s]) > 0",
		"predict_linear(a[1h], 4 * 3600) < b":                         "predict_linear(a[20s], 4 * 20) < b",
		"time() - max_over_time(a[1h]) < 1 * 3600":                    "time() - max_over_time(a[20s]) < 1 * 20",
		"a > 5 * 60 and b > 0.8":                                      "a > 5 * 1 and b > 0.8",
		"avg_over_time(rate(a[5m])[6h:5m] offset 5m)":                 "avg_over_time(rate(a[10s])[30s:1s] offset 10s)",
		"rate(a[1d] offset 5m)":                                       "rate(a[30s] offset 10s)",
		"a{store=\"x60\"} > 60":                                       "a{store=\"x60\"} > 60",
		"histogram_quantile(0.99, rate(a_seconds_bucket[10m])) > 0.5": "histogram_quantile(0.99, rate(a_seconds_bucket[10s])) > 0.5",
	} {
		if got, err := scaleExpr(expr); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", expr, got, err, want)
		}
	}
}

func TestTheShippedRulesCanBeRewritten(t *testing.T) {
	text, err := os.ReadFile("../../deploy/prometheus/rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	scaled, all, err := scaleRules(text)
	if err != nil {
		t.Fatal(err)
	}
	for name := range exceptions {
		found := false
		for _, r := range all {
			found = found || r.Alert == name
		}
		if !found {
			t.Errorf("%s is excepted and not there", name)
		}
	}
	if strings.Contains(string(scaled), "THRESHOLD") {
		t.Error("an exception was left half done")
	}
}
