//go:build !linux

package machine

func FilesystemOf(string) (Filesystem, error) { return Filesystem{}, ErrNotSaid }
