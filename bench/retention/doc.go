// Package retention has the trials of retention: a simulated year against an oracle that
// knows nothing of how it is done.
package retention
