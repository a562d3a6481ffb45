//go:build !linux

// Alerts makes each alert fire by its cause. It needs Linux.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "alerts: disks that fail and fill up need Linux, root and FUSE")
	os.Exit(1)
}
