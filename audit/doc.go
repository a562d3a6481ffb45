// Package audit is the domain: what an entry is and how one is derived from a
// call. Everything here is a pure function over values. Nothing here does
// input or output, starts a goroutine, or knows Caddy, the buffer or a store.
package audit
