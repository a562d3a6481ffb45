// Package auditlog holds the project's Caddyfile, so that `caddy audit demo`
// runs the very file that is shipped.
package auditlog

import _ "embed"

// Caddyfile is the shipped configuration.
//
//go:embed Caddyfile
var Caddyfile []byte
