//go:build linux

package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// A trial has minutes, and the rules speak of hours. So they are rewritten: nothing but
// times changes, and by one rule for all.
//
//   - "for" is divided by 30, and is 5 s at most.
//   - A range or offset is divided by 180, and is between 10 s and 30 s. A subquery's step is 1 s.
//   - In a threshold or a forecast an hour ("N * 3600") is 20 s, and a minute ("N * 60") 1 s.
const (
	minRange, maxRange = 10 * time.Second, 30 * time.Second
	maxFor             = 5 * time.Second
)

// exceptions are what that rule would make untrue, by alert.
var exceptions = map[string]struct{ why, from, to, lasts string }{
	"AuditHeartbeatMissing": {
		why:  "the sidecar records a heartbeat each minute, whatever a minute is here",
		from: "> 3 * 60", to: "> 75",
	},
	"AuditRetentionOverdue": {
		why:  "what has expired is looked for a minute after the start, and each hour then",
		from: "> 4 * 3600", to: "> 4 * 3600", lasts: "70s",
	},
}

var (
	durations = regexp.MustCompile(`\[([0-9]+[smhd])(:[0-9]+[smhd])?\]|offset ([0-9]+[smhd])`)
	hours     = regexp.MustCompile(`\* 3600\b`)
	minutes   = regexp.MustCompile(`\* 60\b`)
)

// parseDuration knows days, too.
func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		return time.Duration(n) * 24 * time.Hour, err
	}
	return time.ParseDuration(s)
}

// scaleRange is a range or offset as it is in a trial.
func scaleRange(s string) (string, error) {
	d, err := parseDuration(s)
	if err != nil {
		return "", err
	}
	return inSeconds(min(max(d/180, minRange), maxRange)), nil
}

func inSeconds(d time.Duration) string {
	return fmt.Sprintf("%ds", int(d.Round(time.Second).Seconds()))
}

// scaleExpr rewrites an expression.
func scaleExpr(expr string) (scaled string, err error) {
	scaled = durations.ReplaceAllStringFunc(expr, func(found string) string {
		parts := durations.FindStringSubmatch(found)
		to, e := scaleRange(parts[1] + parts[3])
		if e != nil {
			err = fmt.Errorf("rewriting %q of %q: %w", found, expr, e)
		}
		switch {
		case parts[3] != "":
			return "offset " + to
		case parts[2] != "":
			return "[" + to + ":1s]"
		}
		return "[" + to + "]"
	})
	return minutes.ReplaceAllString(hours.ReplaceAllString(scaled, "* 20"), "* 1"), err
}

// rule is one of rules.yml.
type rule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

type ruleFile struct {
	Groups []struct {
		Name  string `yaml:"name"`
		Rules []rule `yaml:"rules"`
	} `yaml:"groups"`
}

// scaleRules rewrites a file of rules, and returns what was in it as well.
func scaleRules(text []byte) (scaled []byte, all []rule, err error) {
	var f ruleFile
	if err := yaml.Unmarshal(text, &f); err != nil {
		return nil, nil, fmt.Errorf("reading the rules: %w", err)
	}
	for i := range f.Groups {
		for j := range f.Groups[i].Rules {
			r := &f.Groups[i].Rules[j]
			all = append(all, *r)
			if err := r.scale(); err != nil {
				return nil, nil, err
			}
		}
	}
	scaled, err = yaml.Marshal(f)
	return scaled, all, err
}

func (r *rule) scale() error {
	lasts, err := parseDuration(r.For)
	if err != nil {
		return fmt.Errorf("rewriting the rules: %s: %w", r.Alert, err)
	}
	r.For = inSeconds(min(lasts/30, maxFor))
	e, excepted := exceptions[r.Alert]
	if excepted {
		if strings.Count(r.Expr, e.from) != 1 {
			return fmt.Errorf("rewriting the rules: %s does not have %q once: change what the trial excepts", r.Alert, e.from)
		}
		r.Expr = strings.Replace(r.Expr, e.from, "> THRESHOLD", 1)
		if e.lasts != "" {
			r.For = e.lasts
		}
	}
	if r.Expr, err = scaleExpr(r.Expr); err != nil {
		return err
	}
	r.Expr = strings.Replace(r.Expr, "> THRESHOLD", e.to, 1)
	return nil
}
