// Package commands are the subcommands of `caddy audit`: what an operator types, and what is
// printed.
//
// A command asks the running server at its admin endpoint, in the words of package operator; when
// no server runs it reads the files, and gets the same answers from them by the same package. What
// a configuration comes to it knows through the interfaces Sidecar, Examined and Site, which the
// modules of Caddy implement that it finds by their names. So it may not import package
// caddymodule, which imports it to register it, and needs nothing else of it.
//
// The doctor's checks are here as far as they are about a configuration or a server; how what is
// seen of a machine is judged, and how a report is written, is in internal/doctor.
package commands
