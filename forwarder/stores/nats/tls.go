package natsstore

import "github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/tlsfiles"

// TLS names files, in PEM. They are read again each time that the store connects.
type TLS struct {
	tlsfiles.Files
	// First begins with TLS and lets the server speak afterwards, as servers do that are
	// set to handshake_first. Default: false.
	First bool `json:"first,omitempty"`
}
