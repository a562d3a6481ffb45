package machine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Filesystem is what lies under a path, as far as the system says.
type Filesystem struct {
	// Kind is its name, as in "ext4", or a number that nobody has named.
	Kind string
	// Free is what this user may use, in bytes.
	Free, Total int64
	// FreeInodes is how many files may still be made. Inodes is 0 where there is no such
	// number.
	FreeInodes, Inodes uint64
}

// ErrNotSaid says that this system does not tell what is asked.
var ErrNotSaid = errors.New("this system does not say")

// Kinds of file systems that are no good for a buffer.
var (
	networkFilesystems = map[string]bool{
		"nfs": true, "cifs": true, "smb": true, "smb2": true, "9p": true, "afs": true, "ceph": true, "coda": true, "lustre": true, "gpfs": true,
		"ncp": true, "vboxsf": true,
	}
	memoryFilesystems = map[string]bool{"tmpfs": true, "ramfs": true, "hugetlbfs": true}
)

// IsNetwork reports whether a kind of file system is a network's: it does not sync as a disk
// does, or leaves a lock to chance.
func IsNetwork(kind string) bool { return networkFilesystems[kind] }

// IsMemory reports whether what is on a kind of file system is gone with the machine's power.
func IsMemory(kind string) bool { return memoryFilesystems[kind] }

// Nearest is the path, or the nearest directory above it that there is.
func Nearest(path string) string {
	for {
		_, err := os.Lstat(path)
		if parent := filepath.Dir(path); (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)) && parent != path {
			path = parent
			continue
		}
		return path
	}
}

// BytesIn is what the files of a directory have, without those below it. It looks at no
// more than a hundred thousand.
func BytesIn(dir string) (bytes int64) {
	d, err := os.Open(dir)
	if err != nil {
		return 0
	}
	defer d.Close()
	entries, _ := d.ReadDir(100_000) // what could be read counts
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			bytes += info.Size()
		}
	}
	return bytes
}
