// Package page is the handler audit_log_viewer: it serves package viewer in a Caddyfile, with the
// means of the configuration around it.
//
// It knows Caddy, its own options and package viewer. Of the audit log that it shows it knows the
// interface Log, which the app audit_log implements: who makes a request, whose plan is which,
// which store is read, and how an event becomes durable. It sees no call and no buffer, and may
// not import package caddymodule.
package page
