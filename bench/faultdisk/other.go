//go:build !linux

// Faultdisk lets a running build's disk fail. It needs Linux.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "faultdisk: mounting a disk that fails needs Linux and FUSE")
	os.Exit(1)
}
