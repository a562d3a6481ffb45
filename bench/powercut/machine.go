//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/uuid"
)

// machine is the machine that the build believes to run on, which is started again after
// each cut: the id of its boot is a file of ours that the build sees in the place of the
// kernel's. The kernel here stays up, and what a build concludes from that would be wrong of
// a disk that has lost its power.
type machine struct{ id string }

// bootIDPath is where Linux says which boot this is; see proc_sys_kernel(5).
const bootIDPath = "/proc/sys/kernel/random/boot_id"

// newMachine returns one, and a program that runs caddy on it.
func newMachine(dir, caddy string) (m machine, program string, err error) {
	m.id, program = filepath.Join(dir, "boot_id"), filepath.Join(dir, "caddy-on-its-machine")
	if err := m.boot(); err != nil {
		return m, "", err
	}
	// A mount namespace of its own; each program becomes the next, so that it keeps its number.
	script := fmt.Sprintf("#!/bin/sh\nexec unshare --mount sh -c 'mount --bind \"$0\" %s && exec \"$@\"' '%s' '%s' \"$@\"\n", bootIDPath, m.id, caddy)
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		return m, "", fmt.Errorf("making a machine: %w", err)
	}
	return m, program, nil
}

// boot starts the machine.
func (m machine) boot() error {
	if err := os.WriteFile(m.id, []byte(uuid.NewString()+"\n"), 0o600); err != nil {
		return fmt.Errorf("starting the machine: %w", err)
	}
	return nil
}
