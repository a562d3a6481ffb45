// Package stores are the audit stores of a configuration: which there are, what each gets and
// how, which is read back, and whether one can be used as it is.
//
// It reads a store's options, loads the module behind them, and opens it for whoever asks: a
// delivery, a reader, the ledger of what a store keeps, a check. It knows Caddy for that, and
// imports forwarder/stores so that those of this build are there. What is delivered, and when,
// is for package caddymodule, which holds the buffer; this package has no state beyond the
// configuration, and does not know a running server.
package stores
