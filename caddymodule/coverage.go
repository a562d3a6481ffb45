package caddymodule

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// httpApp finds the HTTP app that a handler is being provisioned for. Its
// routes are complete when every app is.
func httpApp(ctx caddy.Context) *caddyhttp.App {
	for _, m := range ctx.Modules() {
		if app, ok := m.(*caddyhttp.App); ok {
			return app
		}
	}
	return nil
}

// uncoveredWords are in the warning about such routes.
const uncoveredWords = "to an upstream that no audit_log covers"

// warnings are what an operator should know about the configuration around
// ours. It is called when all of it is provisioned.
func (a *App) warnings() []string {
	var found []string
	if !a.logsFiltered {
		found = append(found, "no log of Caddy's has the filter audit_log: when the API is down, "+
			"its error log prints request headers and URIs with the credentials in them; see the log block of the shipped Caddyfile")
	}
	for _, h := range a.handlers {
		for _, i := range h.Issuers {
			if i.inClear() {
				found = append(found, "the keys of issuer "+i.URL+" come over http: whoever can change them on the way can be anybody in the audit log; "+
					"use https, or a file")
			}
		}
	}
	for _, h := range a.handlers {
		if h.lookupsInClear {
			found = append(found, "a service that is asked whose credentials are is asked over http: they can be read on the way, and who can change "+
				"its answers can be anybody in the audit log; use https")
		}
	}
	for _, v := range a.viewers {
		if v.AsksInClear() {
			found = append(found, "the platform's API is asked over http who is a member: readers' credentials can be read on the way, and who can change "+
				"the answers can let anybody in; use https")
		}
	}
	if a.Organizations.AsksInClear() {
		found = append(found, "whose calls are is asked over http: the token can be read on the way, and who can change the answers can give calls to any "+
			"organization; use https")
	}
	if at, yes := a.lookupsOwnSite(); yes {
		found = append(found, "whose calls are is asked at "+at+", where this server listens itself: each question would be a call that asks the next; "+
			"ask the API at its own address")
	}
	if a.http == nil {
		return found
	}
	for _, name := range slices.Sorted(maps.Keys(a.http.Servers)) {
		srv := a.http.Servers[name]
		where := fmt.Sprintf("server %s (%s)", name, strings.Join(srv.Listen, ", "))
		if srv.Logs != nil && srv.Logs.ShouldLogCredentials {
			found = append(found, where+" has log_credentials on: its logs hold the credentials that the audit log keeps off the disk; remove it")
		}
		if srv.Errors != nil && !slices.ContainsFunc(srv.Errors.Routes, func(r caddyhttp.Route) bool { return contains(r.Handlers, 0) }) {
			found = append(found, where+" has error routes without audit_log: where they answer with another status than the error's, "+
				"the entry shows the error's, and an answer_header of theirs reaches the client; begin handle_errors with audit_log")
		}
		w := coverage{named: srv.NamedRoutes}
		w.walk(srv.Routes, false, 0)
		if w.uncovered > 0 {
			found = append(found, fmt.Sprintf("%s has %d route(s) "+uncoveredWords+": "+
				"their calls are not recorded; add audit_log to the site, or ignore this if they are no API", where, w.uncovered))
		}
	}
	return found
}

// Warnings implements the commands' Examined.
func (a *App) Warnings() (routes, others []string) {
	for _, w := range a.warnings() {
		if strings.Contains(w, uncoveredWords) {
			routes = append(routes, w)
		} else {
			others = append(others, w)
		}
	}
	return routes, others
}

// coverage counts the upstreams that can be reached without passing an
// audit_log handler.
type coverage struct {
	named     map[string]*caddyhttp.Route
	uncovered int
}

// deepestRoute bounds the walk: named routes can invoke each other.
const deepestRoute = 32

// walk follows a list of routes in order. Covered says that a handler of ours
// stands before it. It reports whether one stands before what follows the list.
// A handler of ours under a matcher counts: somebody chose what it sees.
func (c *coverage) walk(routes caddyhttp.RouteList, covered bool, depth int) bool {
	for _, route := range routes {
		if c.handlers(route.Handlers, covered, depth) {
			// Later routes of the list are only reached through this one if it
			// takes every request.
			covered = covered || len(route.MatcherSets) == 0 || hasOurs(route.Handlers)
		}
	}
	return covered
}

func (c *coverage) handlers(handlers []caddyhttp.MiddlewareHandler, covered bool, depth int) bool {
	for _, h := range handlers {
		switch h := h.(type) {
		case *Handler:
			covered = true
		case *caddyhttp.Subroute:
			if depth < deepestRoute {
				covered = c.walk(h.Routes, covered, depth+1)
			}
		case *caddyhttp.Invoke:
			if route := c.named[h.Name]; route != nil && depth < deepestRoute {
				covered = c.handlers(route.Handlers, covered, depth+1)
			}
		default:
			if m, ok := h.(caddy.Module); ok && m.CaddyModule().ID == "http.handlers.reverse_proxy" && !covered {
				c.uncovered++
			}
		}
	}
	return covered
}

// contains looks for a handler of ours at any depth.
func contains(handlers []caddyhttp.MiddlewareHandler, depth int) bool {
	return hasOurs(handlers) || slices.ContainsFunc(handlers, func(h caddyhttp.MiddlewareHandler) bool {
		sub, ok := h.(*caddyhttp.Subroute)
		return ok && depth < deepestRoute && slices.ContainsFunc(sub.Routes, func(r caddyhttp.Route) bool { return contains(r.Handlers, depth+1) })
	})
}

func hasOurs(handlers []caddyhttp.MiddlewareHandler) bool {
	return slices.ContainsFunc(handlers, func(h caddyhttp.MiddlewareHandler) bool {
		_, ok := h.(*Handler)
		return ok
	})
}
