//go:build !unix

package machine

import "io/fs"

func OwnerOf(fs.FileInfo) (uid int, ok bool) { return 0, false }

func DeviceOf(fs.FileInfo) (device uint64, ok bool) { return 0, false }

func ThisUser() (uid int, ok bool) { return 0, false }

func UserName(int) string { return "" }
