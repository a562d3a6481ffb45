// Package caddymodule is where the audit log meets Caddy, and what a build imports: with it come
// the app, the handlers, the admin routes, the stores and the commands.
//
// A call's way is what one reads here, in the order in which it goes:
//
//	handler.go         the call arrives: snapshot, rule, admission
//	credential.go      what of it may be a credential, and what the API's own headers assert
//	rule.go            how it is recorded
//	call.go            intent, API, outcome
//	responsewriter.go  nothing leaves before its outcome is durable
//	hold.go            the few answers that wait for a target that is born in them
//	capture.go         what is recorded of bodies
//	fold.go            one entry for a flood of refused reads
//
// Around it is what lives as long as a configuration or a buffer does: the app (app.go), the buffer
// that configurations and calls share (shared.go), what it tells of itself (events.go, gap.go),
// deliveries to stores (delivery.go, drain.go), and the server's side of what an operator asks
// (admin.go, and a file for each kind of order).
//
// What can be known without a call in hand is in rooms of their own. None of them imports this
// package:
//
//	commands   `caddy audit …`: finds the app among Caddy's modules, and asks a server or reads files
//	operator   what an operator asks, and the answers: shared by the admin routes and the commands
//	page       the handler audit_log_viewer
//	stores     the stores of a configuration
//	catalogs   the descriptions of a site's own API
//	stamps     whose an entry is and how long it is kept, as options
//	syntax     what the blocks of our Caddyfile have in common
//
// What looks at a machine, computes sizes or writes to a terminal knows no Caddy, and is in
// internal/doctor, internal/machine, internal/sizing and internal/display.
package caddymodule
