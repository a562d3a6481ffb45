//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"
)

// selector is of series of ours, with what stands in its braces.
var selector = regexp.MustCompile(`\b(?:caddy_audit_[a-z0-9_]+|up)\b(?:\{[^}]*\})?`)

// noData are metrics that a trial of minutes cannot bring about: what is kept for the shortest
// term goes after two days. bench/retention has years of it.
var noData = []string{"caddy_audit_retention_pruned_entries_total"}

// expressions evaluates all that the rules and the dashboard ask, over the whole trial: at some
// time in it, each must have had data. A rule's condition has data when it is met, which
// is what the scenes show; here it is what stands in it.
func (v *verdict) expressions(ctx context.Context, w *watch, rules []rule, dashboard []byte, began time.Time) error {
	now := time.Now()
	for _, r := range rules {
		scaled := r
		if err := scaled.scale(); err != nil {
			return err
		}
		if _, err := w.query(ctx, w.prometheus, scaled.Expr, now); err != nil {
			v.note(&v.Failures, "%s: %v", r.Alert, err)
			continue
		}
		v.Rules++
		for _, s := range selector.FindAllString(r.Expr, -1) {
			if err := v.hasData(ctx, w, r.Alert, s, began, now); err != nil {
				return err
			}
		}
	}
	var d struct {
		Panels []struct {
			Title   string                  `json:"title"`
			Targets []struct{ Expr string } `json:"targets"`
		} `json:"panels"`
		Annotations struct {
			List []struct{ Name, Expr string } `json:"list"`
		} `json:"annotations"`
	}
	if err := json.Unmarshal(dashboard, &d); err != nil {
		return fmt.Errorf("reading the dashboard: %w", err)
	}
	variables := strings.NewReplacer("$__rate_interval", "10s", "$instance", ".*")
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			v.Queries++
			if err := v.hasData(ctx, w, p.Title, variables.Replace(q.Expr), began, now); err != nil {
				return err
			}
		}
	}
	for _, q := range d.Annotations.List {
		if q.Expr == "" {
			continue // Grafana's own
		}
		v.Queries++
		if err := v.hasData(ctx, w, q.Name, variables.Replace(q.Expr), began, now); err != nil {
			return err
		}
	}
	return nil
}

// hasData asks both servers. What is about histograms must have data with native ones, too.
func (v *verdict) hasData(ctx context.Context, w *watch, what, expr string, from, to time.Time) error {
	for name, addr := range map[string]string{"": w.prometheus, " with native histograms": w.native} {
		if name != "" && (strings.HasPrefix(expr, "caddy_audit_") && regexp.MustCompile(`_(bucket|count|sum)\b`).MatchString(expr)) {
			continue // one form of two, of which a rule has both
		}
		if name == "" && regexp.MustCompile(`^caddy_audit_[a-z_]*(duration|overhead)_seconds(\{.*)?$`).MatchString(expr) {
			continue // the other form
		}
		n, err := w.queryRange(ctx, addr, expr, from, to)
		if err != nil {
			v.note(&v.Failures, "%s%s: %v", what, name, err)
		} else if n == 0 && slices.ContainsFunc(noData, func(name string) bool { return strings.Contains(expr, name) }) {
			v.note(&v.Excused, "%s%s: %s", what, name, expr)
		} else if n == 0 {
			v.note(&v.Empty, "%s%s: %s", what, name, expr)
		}
	}
	return ctx.Err()
}

// exposition has promtool look at what a build exposes.
func (v *verdict) exposition(ctx context.Context, w *watch, s *stage) error {
	_, text, err := get(ctx, "http://"+s.site.Metrics+"/metrics")
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	cmd := exec.CommandContext(ctx, w.programs.Promtool, "check", "metrics")
	cmd.Stdin = bytes.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil || len(strings.TrimSpace(string(out))) > 0 {
		v.note(&v.Failures, "%s: promtool check metrics: %v: %s", s.name, err, out)
	}
	return nil
}

// unasked are alerts that fired without a cause.
func (v *verdict) unasked(w *watch, stages []*stage) {
	meant := map[subject]bool{}
	for _, s := range v.Shown {
		meant[subject{s.Alert, s.Site}] = true
	}
	for _, s := range stages {
		for _, alert := range s.may {
			meant[subject{alert, s.name}] = true
		}
	}
	for _, s := range w.all() {
		if s.alert == "AuditCommitsSlow" {
			continue // the machine's own disk may be busy
		}
		if !meant[s] && !slices.ContainsFunc(v.Failures, func(f string) bool { return strings.Contains(f, s.alert) && strings.HasPrefix(f, s.site+":") }) {
			v.note(&v.Unexpected, "%s at %s", s.alert, s.site)
		}
	}
	v.Failures = append(v.Failures, w.wrong...)
}

// unshown are alerts that no scene is about.
func (v *verdict) unshown(rules []rule) {
	for _, r := range rules {
		shown := slices.ContainsFunc(v.Shown, func(s shown) bool { return s.Alert == r.Alert })
		if !shown && !slices.ContainsFunc(v.Failures, func(f string) bool { return strings.Contains(f, r.Alert) }) {
			v.note(&v.Failures, "no scene has shown %s", r.Alert)
		}
	}
}
