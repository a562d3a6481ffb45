// Package broken compiles on all systems but Windows.
package broken
