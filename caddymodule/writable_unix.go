//go:build unix

package caddymodule

import "golang.org/x/sys/unix"

// writable asks the system whether this user may make files in a directory.
func writable(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }
