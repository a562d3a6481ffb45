package commands

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
)

// checkRoutes looks for calls that are not recorded, or not by their names.
func checkRoutes(_ context.Context, d *examination) []doctor.Diagnosis {
	if d.app == nil {
		return unread()
	}
	var list []doctor.Diagnosis
	routes, _ := d.app.Warnings()
	for _, w := range routes {
		list = append(list, asFinding(w))
	}
	for _, c := range d.app.Sites() {
		list = append(list, catalogFinding(&catalogSite{name: "audit_log", definedAt: c.DefinedAt, Catalogued: c}))
	}
	return list
}

// catalogFinding is what `caddy audit catalog --uncovered` says of a site. What a platform
// itself has without a target is as it should be.
func catalogFinding(s *catalogSite) doctor.Diagnosis {
	if s.Platform.Catalog == nil {
		return doctor.Warning("%s knows no API: its calls have routes and targets by what looks like an id", s.title()).
			Mend("describe it, as in: catalog openapi ./openapi.json")
	}
	operations, all := s.uncovered()
	if s.Catalogs > 0 {
		base := map[string]bool{}
		for op := range s.Base.Catalog.Operations() {
			base[audit.SameRoute(op.Method, op.Template)] = true
		}
		operations = slices.DeleteFunc(operations, func(op *audit.Operation) bool { return base[audit.SameRoute(op.Method, op.Template)] })
		if len(operations) > 0 {
			return doctor.Warning("%s: %d of its own operations have no target, such as %s %s", s.title(), len(operations), operations[0].Method, operations[0].Template).
				Mend("name one in a catalog file; \"caddy audit catalog --uncovered\" lists them")
		}
	}
	return doctor.Fine("%s knows %d operations of its API", s.title(), all)
}

// safeMethods change nothing.
var safeMethods = []string{http.MethodGet, http.MethodHead, http.MethodOptions}

// checkPolicy looks for what lets calls through unrecorded, or too soon.
func checkPolicy(_ context.Context, d *examination) []doctor.Diagnosis {
	if d.app == nil {
		return unread()
	}
	var list []doctor.Diagnosis
	if d.app.BufferOptions().OnFault == buffer.Pass {
		list = append(list, doctor.Warning("on_fault pass: while the buffer is full, failing or slow, calls go through unrecorded, and a gap counts them").
			Mend("if each call must be recorded, remove it; \"caddy audit pass\" does the same for a time"))
	}
	for _, s := range d.sites {
		for _, r := range s.rules {
			if f, bad := ruleFinding(s, &r); bad {
				list = append(list, f)
			}
		}
	}
	if len(list) == 0 {
		list = append(list, doctor.Fine("changing calls are recorded before they reach the API, and none passes unrecorded"))
	}
	return list
}

// ruleFinding is about a rule that is not provisioned yet, which takes its matchers away.
func ruleFinding(s *catalogSite, r *siteRule) (f doctor.Diagnosis, bad bool) {
	const cure = "limit it to methods that change nothing, as in: @reads method GET HEAD"
	switch {
	case r.Level == audit.LevelNone && len(r.Matchers) == 0:
		return doctor.Wrong("%s: rule %s none matches every call: what no rule before it matches is not recorded", s.title(), r.Name).
			Mend("give it a matcher, as in: @probes path /health"), true
	case r.Level == audit.LevelNone || onlyReads(r.Matchers):
		return f, false
	case r.Durability == audit.DurabilityRelaxed:
		return doctor.Warning("%s: rule %s is relaxed for calls that change something: any death of the process can lose their entries", s.title(), r.Name).Mend(cure), true
	case r.Durability == audit.DurabilityAnswer:
		return doctor.Warning("%s: rule %s is answer for calls that change something: of what was in flight when the process was killed there is no record", s.title(), r.Name).Mend(cure), true
	}
	return f, false
}

// onlyReads reports whether each set of matchers is limited to methods that change nothing.
func onlyReads(sets caddyhttp.RawMatcherSets) bool {
	return len(sets) > 0 && !slices.ContainsFunc(sets, func(set caddy.ModuleMap) bool {
		var methods []string
		if json.Unmarshal(set["method"], &methods) != nil || len(methods) == 0 {
			return true
		}
		return slices.ContainsFunc(methods, func(m string) bool { return !slices.Contains(safeMethods, strings.ToUpper(m)) })
	})
}

// checkRetention looks at how long entries exist.
func checkRetention(_ context.Context, d *examination) []doctor.Diagnosis {
	if d.app == nil {
		return unread()
	}
	var list []doctor.Diagnosis
	if d.app.Retention().Keep == nil {
		list = append(list, doctor.Warning("there is no keep: nothing is ever deleted, and stores grow for ever").
			Mend("say how long entries exist, as in: keep { default 400d }"))
	} else {
		list = append(list, doctor.Fine("entries are kept for %s, where no class says otherwise", d.app.Retention().Terms().Term(audit.ClassDefault)))
		if names := d.app.Retention().Stores.NotKept(); len(names) > 0 {
			list = append(list, doctor.Fine("%s delete by means of their own, not by keep: see their documentation", strings.Join(names, ", ")))
		}
	}
	if d.status == nil {
		return list
	}
	for _, s := range d.status.Stores {
		if k := s.Retention; k != nil && !k.FailingSince.IsZero() {
			list = append(list, doctor.Warning("store %s is not held to its retention: %s", s.Name, k.LastError).
				Mend("nothing expires in it until this is mended; most often a role may not delete"))
		}
	}
	return list
}
