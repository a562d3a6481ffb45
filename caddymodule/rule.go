package caddymodule

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// Rule says how the calls that it matches are recorded. The first rule that
// matches counts; a call that none matches is recorded by default.
type Rule struct {
	// Name stands in the entries that the rule chose. A Caddyfile takes the
	// matcher's own. Required.
	Name string `json:"name"`

	// MatcherSetsRaw are Caddy's request matchers. A Caddyfile names one of this block or
	// of the site by its @name, or has a path, or * for every call. Default: every call
	// matches.
	MatcherSetsRaw caddyhttp.RawMatcherSets `json:"match,omitempty" caddy:"namespace=http.matchers"`

	// Level is how much is recorded: "none", which only counts the call,
	// "metadata", which is everything but bodies, queries and headers, "request",
	// which adds what the allow-lists of the site and of the operation name of
	// the request, or "request_response", which adds those of the answer. Required.
	Level audit.Level `json:"level"`

	// Durability is what the call waits for: "strict" (its intent before the
	// API, its outcome before the answer), "answer" (its outcome before the
	// answer) or "relaxed" (nothing: any death of the process can lose the
	// entry). Default: "strict" for calls that may change something, and else
	// "answer".
	Durability audit.Durability `json:"durability,omitempty"`

	matchers caddyhttp.MatcherSets
}

var levels = []audit.Level{audit.LevelNone, audit.LevelMetadata, audit.LevelRequest, audit.LevelRequestResponse}

var durabilities = []audit.Durability{audit.DurabilityStrict, audit.DurabilityAnswer, audit.DurabilityRelaxed}

// sensitiveRule is for reads of keys and secrets that a rule excludes: those an
// auditor asks about first, whatever is turned off. A catalog of the site's own
// decides what is sensitive.
var sensitiveRule = &Rule{Name: "sensitive", Level: audit.LevelMetadata}

// overrideRule is for calls that a rule excludes by what it sees of them, and
// that name another method than it can see.
var overrideRule = &Rule{Name: "method_override", Level: audit.LevelMetadata}

// kept is the rule that counts for a call that another one excludes.
func (h *Handler) kept(rule *Rule, r *http.Request) *Rule {
	switch {
	case h.platform.IsSensitive(r.Method, r.URL.EscapedPath()):
		return sensitiveRule
	case methodOverride(r.Header) != "" && len(rule.matchers) > 0:
		return overrideRule
	default:
		return rule
	}
}

func (r *Rule) check() error {
	if !slices.Contains(levels, r.Level) {
		return fmt.Errorf("level %q is not known: choose none, metadata, request or request_response", r.Level)
	}
	if r.Durability != "" && !slices.Contains(durabilities, r.Durability) {
		return fmt.Errorf("durability %q is not known: choose strict, answer or relaxed", r.Durability)
	}
	if r.Level == audit.LevelNone && r.Durability != "" {
		return fmt.Errorf("durability %q has no meaning with level none: remove one", r.Durability)
	}
	return nil
}

func (r *Rule) provision(ctx caddy.Context) error {
	if err := r.check(); err != nil {
		return err
	}
	sets, err := ctx.LoadModule(r, "MatcherSetsRaw")
	if err != nil {
		return fmt.Errorf("loading matchers: %w", err)
	}
	return r.matchers.FromInterface(sets)
}

// ruleFor finds the first rule that matches. A matcher that fails matches
// nothing: in doubt the call is recorded.
func (h *Handler) ruleFor(r *http.Request) *Rule {
	for _, rule := range h.Rules {
		if ok, err := rule.matchers.AnyMatchWithError(r); ok && err == nil {
			return rule
		}
	}
	return h.defaultRule
}

// String describes the rule for a reader of audit.config_changed.
func (r *Rule) String() string {
	words := []string{"rule", r.Name, string(r.Level)}
	if r.Durability != "" {
		words = append(words, string(r.Durability))
	}
	for _, set := range r.MatcherSetsRaw {
		for _, name := range slices.Sorted(maps.Keys(set)) {
			words = append(words, name, describeMatcher(name, set[name]))
		}
	}
	return strings.Join(words, " ")
}

// openMatchers cannot hold a credential; of all others only a hash is shown.
var openMatchers = []string{"path", "path_regexp", "method", "host", "protocol", "remote_ip", "client_ip"}

func describeMatcher(name string, raw json.RawMessage) string {
	if slices.Contains(openMatchers, name) {
		return string(raw)
	}
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:8])
}

// ruleParser reads rules and the named matchers beside them.
type ruleParser struct {
	httpcaddyfile.Helper
	matchers map[string]caddy.ModuleMap
}

// define reads a named matcher of the block: a line, or a block of its own.
func (p *ruleParser) define(d *caddyfile.Dispenser) error {
	name := d.Val()
	if _, ok := p.matchers[name]; ok {
		return d.Errf("there is a matcher %s already in this block", name)
	}
	set, err := caddyhttp.ParseCaddyfileNestedMatcherSet(d)
	if err != nil {
		return err
	}
	if len(set) == 0 {
		return d.Errf("matcher %s matches nothing: write it as in: %s path /health", name, name)
	}
	p.matchers[name] = set
	return nil
}

// rule reads: rule <matcher> <level> [<durability>].
func (p *ruleParser) rule(d *caddyfile.Dispenser) (*Rule, error) {
	const form = "write it as in: rule @probes none, or: rule /v1/projects* metadata strict"
	args := d.RemainingArgs()
	if len(args) < 2 || len(args) > 3 {
		return nil, d.Errf("rule takes a matcher, a level, and at most a durability: %s", form)
	}
	r := &Rule{Name: args[0], Level: audit.Level(args[1])}
	if len(args) == 3 {
		r.Durability = audit.Durability(args[2])
	}
	if err := r.check(); err != nil {
		return nil, d.Errf("rule %s: %w", r.Name, err)
	}
	set, err := p.matcher(d, args[0], form)
	if err != nil {
		return nil, err
	}
	if set != nil {
		r.MatcherSetsRaw = caddyhttp.RawMatcherSets{set}
	}
	return r, nil
}

// matcher resolves a matcher token: of this block, of the site, a path, or *.
func (p *ruleParser) matcher(d *caddyfile.Dispenser, token, form string) (caddy.ModuleMap, error) {
	if set, ok := p.matchers[token]; ok {
		return set, nil
	}
	if !strings.HasPrefix(token, "@") && !strings.HasPrefix(token, "/") && token != "*" {
		return nil, d.Errf("%q is not a matcher: %s", token, form)
	}
	one := caddyfile.NewDispenser([]caddyfile.Token{{File: d.File(), Line: d.Line(), Text: "rule"}, {File: d.File(), Line: d.Line(), Text: token}})
	one.Next()
	set, ok, err := p.WithDispenser(one).MatcherToken()
	if err != nil || !ok {
		return nil, d.Errf("there is no matcher %s: define it in this block or in the site, as in: %s path /health", token, token)
	}
	return set, nil
}
