// Package sizing computes how much disk the buffer and the stores need, and when it is full:
// the arithmetic of `caddy audit size`.
//
// It looks at nothing but its input. Its figures were measured by bench/size, and docs/sizing.md
// says how.
package sizing
