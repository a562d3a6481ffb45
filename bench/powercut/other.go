//go:build !linux

// Powercut takes the power away from a running build's disk. It needs Linux.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "powercut: cutting the power of a disk needs Linux: ext4, loop devices and FUSE")
	os.Exit(1)
}
