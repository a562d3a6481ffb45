//go:build unix

package machine

import "golang.org/x/sys/unix"

// Writable asks the system whether this user may make files in a directory.
func Writable(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }
