//go:build unix

package commands

import "time"

// setting is where and how the commands of a document are run. Each document with commands has
// one; its zero value is the shipped Caddyfile's server, after a few calls.
type setting struct {
	// noServer: it is begun without one.
	noServer bool
	// before prepares the site, before its server starts.
	before func(*site)
	// env is the environment's, beside PATH and the like, as in NAME=value.
	env []string
	// steps are the commands that need more than to be run.
	steps []step
}

// step is what a command needs. The other commands are run as they stand, must end by themselves
// with status 0, and print what their document shows.
type step struct {
	// command is what the command begins with.
	command string
	// before is done before it, and after behind it.
	before, after func(*site)
	// instead of the document's words stand these: what a reader fills in, or, in a long trial,
	// figures of a short one. They come in pairs.
	instead []string
	// user runs it; empty is root.
	user string
	// env is what it has in its environment beside that of its setting.
	env []string
	// exact: what is shown is printed as it stands there, the figures too.
	exact bool
	// prints is what must be in its output, as a pattern.
	prints []string
	// until is for what goes on until it is interrupted: what it must have printed by then.
	// With serves it is the site's server from then on.
	until  string
	serves bool
	// optional is a program of somebody else's without which it is not run.
	optional string
	// status is what it ends with.
	status int
	// within is how long it may take; zero is a minute.
	within time.Duration
}

// settings are those of the documents, by their paths.
var settings = map[string]setting{
	"README.md":                    readme,
	"CONTRIBUTING.md":              contributing,
	"bench/README.md":              bench,
	"bench/transparency/README.md": bench,
	"docs/catalog.md":              catalog,
	"docs/deployment.md":           deployment,
	"docs/doctor.md":               doctor,
	"docs/faults.md":               faults,
	"docs/file.md":                 file,
	"docs/http.md":                 endpoint,
	"docs/nats.md":                 nats,
	"docs/otlp.md":                 otlp,
	"docs/postgres.md":             postgres,
	"docs/releases.md":             releases,
	"docs/retention.md":            retention,
	"docs/runbook.md":              runbook,
	"docs/s3.md":                   s3,
	"docs/sizing.md":               sizing,
	"docs/sqlite.md":               bench,
	"docs/stores.md":               stores,
	"docs/syslog.md":               syslog,
	"docs/upgrade.md":              upgrade,
	"docs/viewer.md":               viewer,
}
