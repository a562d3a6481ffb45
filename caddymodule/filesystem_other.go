//go:build !linux

package caddymodule

func filesystemOf(string) (filesystem, error) { return filesystem{}, errNotSaid }
