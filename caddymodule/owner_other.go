//go:build !unix

package caddymodule

import "io/fs"

func ownerOf(fs.FileInfo) (uid int, ok bool) { return 0, false }

func deviceOf(fs.FileInfo) (device uint64, ok bool) { return 0, false }

func thisUser() (uid int, ok bool) { return 0, false }

func userName(int) string { return "" }
