// Package prometheus has no code: rules.yml is for Prometheus, and rules_test.yml for
// promtool.
package prometheus
